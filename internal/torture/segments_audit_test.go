package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// emptiedSchema makes the database take down every row that a TRUNCATE is about to remove, and whom it is not settled for.
var emptiedSchema = `
CREATE TABLE torture.emptied (at timestamptz NOT NULL, segment int NOT NULL, id bigint NOT NULL, message bigint NOT NULL, topic text NOT NULL);
CREATE TABLE torture.unsettled (subscription text NOT NULL, id bigint NOT NULL, topic text NOT NULL);
CREATE FUNCTION torture.note_emptied() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	at timestamptz := clock_timestamp();
BEGIN
	INSERT INTO torture.emptied SELECT at, o.segment, o.id, (o.payload ->> 'id')::bigint, o.topic
	FROM postrider.outbox o WHERE o.segment = TG_ARGV[0]::smallint;
	INSERT INTO torture.unsettled SELECT c.subscription, o.id, o.topic FROM postrider.outbox o, postrider.cursors c
	WHERE o.segment = TG_ARGV[0]::smallint AND NOT pg_visible_in_snapshot(o.xid, c.base);
	RETURN NULL;
END $$;
` + emptiedTriggers()

func emptiedTriggers() string {
	var b strings.Builder
	for i := range 16 {
		fmt.Fprintf(&b, "CREATE TRIGGER note BEFORE TRUNCATE ON postrider.outbox_%d FOR EACH STATEMENT EXECUTE FUNCTION torture.note_emptied('%d');\n", i, i)
	}
	return b.String()
}

// emptied is how many segments were emptied so far.
func (w *world) emptied(t *testing.T) int {
	t.Helper()
	return value[int](t, w, "SELECT count(DISTINCT at)::int FROM torture.emptied")
}

// awaitEmptied waits until n more segments have been emptied.
func (w *world) awaitEmptied(t *testing.T, n int) {
	t.Helper()
	goal := w.emptied(t) + n
	eventually(t, 30*time.Second, func() error {
		if is := w.emptied(t); is < goal {
			held, err := ask[string](t.Context(), w.db, segmentsHeld, time.Now())
			return fmt.Errorf("%d segments were emptied, %d were to be: %s (%v)", is, goal, strings.Join(held, ", "), err)
		}
		return nil
	})
}

// checkEmptied fails if a row disappeared that was not settled: by what the database said at the time, and by what had arrived.
func (w *world) checkEmptied(t *testing.T) {
	t.Helper()
	w.nothing(t, "rows emptied that were not settled", "SELECT subscription || ' ' || id || ' ' || topic FROM torture.unsettled")
	truth, err := w.truth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := &evidence{truth: truth}
	ids, err := ask[int64](t.Context(), w.db, "SELECT message FROM torture.emptied ORDER BY at, id")
	if err != nil {
		t.Fatal(err)
	}
	times, err := ask[time.Time](t.Context(), w.db, "SELECT at FROM torture.emptied ORDER BY at, id")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range w.subs {
		first := e.firsts(s.book.all())
		dead, held := e.parked(s.Expectation)
		for i, id := range ids {
			m := truth.messages[id]
			if !s.Matches(m) || dead[id] || held[id] {
				continue // parked rows hold copies
			}
			// A delivery that is tried again, or is not due yet, is parked too and may come later. Those to streams are never.
			if at, arrived := first[id]; !arrived || s.stream != nil && at.After(times[i]) && !m.scheduled() {
				t.Errorf("%s: %s was emptied at %s and arrived at %s", s.Name, m, clock(times[i]), clock(at))
			}
		}
	}
	w.say("audited: %d rows in %d emptied segments", len(ids), w.emptied(t))
}

// scheduled says whether the message may have been enqueued for later.
func (m Message) scheduled() bool { return m.Key == "" }

// lockWatch looks for sessions that wait for locks on the outbox.
type lockWatch struct {
	found []string
	looks int
}

// longWait is more than an INSERT may wait for a TRUNCATE that is under way.
const longWait = time.Second

// watchLocks looks until the test ends or the returned function is called, and fails the test with what it found.
func (w *world) watchLocks(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	l := &lockWatch{}
	done.Go(func() {
		for pause(ctx, 10*time.Millisecond) {
			l.look(ctx, w)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
		for _, text := range l.found {
			t.Error(text)
		}
		if l.looks < 100 {
			t.Errorf("looked for locks only %d times", l.looks)
		}
	})
	t.Cleanup(stop)
	return stop
}

// look finds a TRUNCATE that waits at all, and anybody who waits for long.
func (l *lockWatch) look(ctx context.Context, w *world) {
	list, err := ask[string](ctx, w.db, fmt.Sprintf(`SELECT a.usename || ' waits for ' || l.mode || ' on ' || l.relation::regclass || ': ' || a.query
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE NOT l.granted AND l.locktype = 'relation' AND l.relation::regclass::text LIKE 'postrider.outbox%%'
		  AND (l.mode = 'AccessExclusiveLock' OR clock_timestamp() - l.waitstart > interval '%d ms')`, longWait.Milliseconds()))
	if err != nil {
		return // the test is at its end
	}
	l.looks++
	for _, text := range list {
		if !slices.Contains(l.found, text) {
			l.found = append(l.found, text)
		}
	}
}
