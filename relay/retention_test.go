package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/maintain"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// ring is a bench whose clock stands: the current segment is 8, the next 9.
type ring struct {
	*bench
	*maintain.Retention
	store.Segments
	keep time.Duration
	log  strings.Builder
}

func newRing(t *testing.T) *ring {
	b := newBench(t)
	b.Exec("CREATE OR REPLACE FUNCTION postrider.current_segment() RETURNS smallint LANGUAGE sql STABLE PARALLEL SAFE RETURN 8::smallint")
	r := &ring{bench: b, Segments: store.Segments{Pool: b.OnePool()}, keep: time.Hour}
	r.Retention = maintain.NewRetention(r.Segments, r.keep, slog.New(slog.NewTextHandler(&r.log, nil)), metrics.New(nil, nil))
	return r
}

// fill puts rows of an age into a segment, each in a transaction of its own.
func (r *ring) fill(segment int, ages ...time.Duration) {
	r.t.Helper()
	for _, age := range ages {
		r.Exec(`INSERT INTO postrider.outbox (segment, topic, payload, created_at) VALUES ($1, 'a', '1', clock_timestamp() - $2::interval)`, segment, age)
	}
}

// settle moves all cursors, or one, to the present.
func (r *ring) settle(names ...string) {
	r.t.Helper()
	r.Exec("UPDATE postrider.cursors SET base = pg_current_snapshot() WHERE cardinality($1::text[]) = 0 OR subscription = ANY ($1)", append([]string{}, names...))
}

func (r *ring) rows(segment int) int {
	return scalar[int](r.bench, fmt.Sprintf("SELECT count(*) FROM postrider.outbox_%d", segment))
}

// empties checks what empty does to the segment, within the time of a few statements.
func (r *ring) empties(what string, segment int, want bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Second)
	defer cancel()
	before := r.rows(segment)
	got, err := r.Empty(ctx, segment, r.keep)
	if err != nil || (got == store.SegmentEmptied) != want {
		r.t.Errorf("%s: %v, %v; want it emptied: %t", what, got, err, want)
	}
	if after := r.rows(segment); want && after != 0 || !want && after != before {
		r.t.Errorf("%s: %d of %d rows are left", what, after, before)
	}
}

func TestSegmentsAreEmptiedWhenSettledAndOld(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.subscribe("one", "{>}", "{}", "now")
	r.subscribe("two", "{>}", "{}", "now")
	r.Exec("SELECT postrider.pause('two')")
	const old, young = 2 * time.Hour, time.Minute
	for _, segment := range []int{2, 3, 8, 9} {
		r.fill(segment, old, old)
	}
	r.fill(4, old, young)
	r.fill(5, young, old) // by order of id the newest is old
	r.empties("unsettled", 2, false)
	r.settle("one")
	r.empties("unsettled for a paused subscription", 2, false)
	r.settle()
	r.empties("current", 8, false)
	r.empties("next", 9, false)
	r.empties("young", 4, false)
	r.empties("empty", 7, false)
	r.empties("settled and old", 2, true)
	r.fill(3, old)
	r.empties("an unsettled row among settled ones", 3, false)
	r.settle()
	r.empties("settled again", 3, true)
	if ids := r.Publish("a", "", "1"); r.rows(8) != 3 || len(ids) != 1 {
		t.Errorf("%d rows in the current segment", r.rows(8))
	}
	r.Exec("SELECT postrider.unsubscribe('one'), postrider.unsubscribe('two')")
	r.fill(3, old)
	r.empties("nobody subscribes", 3, true)
}

// A cursor whose snapshot lists a transaction as running holds that transaction's rows, and no others.
func TestSegmentsKeepWhatRanInABase(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.subscribe("one", "{>}", "{}", "now")
	tx, err := r.Admin.Begin(t.Context())
	mend(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	_, err = tx.Exec(t.Context(), `INSERT INTO postrider.outbox (segment, topic, payload, created_at) VALUES (2, 'a', '1', now() - interval '2 hours')`)
	mend(t, err)
	r.fill(3, 2*time.Hour)
	r.settle()
	listed := scalar[int64](r.bench, "SELECT count(*) FROM postrider.cursors, pg_snapshot_xip(base)")
	if listed == 0 {
		t.Error("the base lists no running transaction: the test shows nothing")
	}
	r.empties("of a transaction before the base that runs", 2, false)
	mend(t, tx.Commit(t.Context()))
	r.empties("of a transaction that ran in the base", 2, false)
	r.empties("of a transaction that had ended", 3, true)
	r.settle()
	r.empties("settled in the end", 2, true)
}

// Whoever holds the segment is not waited for, and does not have to wait.
func TestSegmentsInUseAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.fill(2, 2*time.Hour)
	for _, sql := range []string{
		"SELECT FROM postrider.outbox_2",
		"INSERT INTO postrider.outbox (segment, topic, payload) VALUES (2, 'a', '1')",
		"SELECT postrider.keep_segments()",
	} {
		tx, err := r.Admin.Begin(t.Context())
		mend(t, err)
		_, err = tx.Exec(t.Context(), sql)
		mend(t, err)
		r.empties("while somebody has run "+sql, 2, false)
		r.fill(2, 2*time.Hour)
		mend(t, tx.Rollback(t.Context()))
	}
	r.empties("when nobody uses it", 2, true)
}

// A row that commits between the first look and the lock is seen, whatever the role's default isolation is.
func TestSegmentsAreJudgedUnderTheLock(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.Exec(fmt.Sprintf("ALTER ROLE %q SET default_transaction_isolation = 'repeatable read'", r.Role))
	r.subscribe("one", "{>}", "{}", "now")
	r.fill(2, 2*time.Hour)
	r.settle()
	config, err := dbconn.ParseConfig(r.DB.RoleURL(r.Role))
	mend(t, err)
	config.MaxConns = 1
	config.ConnConfig.Tracer = beforeStatement{"LOCK TABLE", func() { r.fill(2, 2*time.Hour) }}
	pool, err := dbconn.NewPool(t.Context(), config)
	mend(t, err)
	t.Cleanup(pool.Close)
	r.Segments.Pool = pool
	if result, err := r.Empty(t.Context(), 2, r.keep); result != store.SegmentNeeded || err != nil || r.rows(2) != 2 {
		t.Errorf("with a row that came just before the lock: %v, %v; %d of 2 rows are left", result, err, r.rows(2))
	}
}

// beforeStatement does something before each statement that begins in a certain way.
type beforeStatement struct {
	prefix string
	do     func()
}

// TraceQueryStart implements pgx.QueryTracer.
func (b beforeStatement) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, b.prefix) {
		b.do()
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (b beforeStatement) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// What nobody can judge by its time goes by the ring: a clock that was wrong for a while, or times that a role with more rights has set,
// keep no segment for ever. A segment that is current or next stays in any case.
func TestSegmentsWithTimesToCome(t *testing.T) {
	t.Parallel()
	r := newRing(t) // current is 8; segments of two hours, a retention of one
	insert := func(segment int, at string) {
		r.Exec(`INSERT INTO postrider.outbox (segment, topic, payload, created_at) VALUES ($1, 'a', '1', $2::text::timestamptz)`, segment, at)
	}
	for segment, at := range map[int]string{6: "infinity", 7: "infinity", 9: "infinity", 8: "infinity", 2: "2190-01-01Z", 3: "294276-12-31Z", 10: "-infinity"} {
		insert(segment, at)
	}
	r.empties("current", 8, false)
	r.empties("next", 9, false)
	r.empties("a turn ago: it may be younger than the retention", 7, false)
	r.empties("two turns ago", 6, true)
	r.empties("of a far year", 2, true)
	r.empties("of the last year there is", 3, true)
	r.empties("of ever", 10, true)
	r.keep = 24 * time.Hour
	for segment, want := range map[int]bool{2: false, 12: false, 11: true, 10: true} { // ended 5, 11, 12 and 13 turns of two hours ago
		insert(segment, "infinity")
		r.empties(fmt.Sprint("with a retention of a day, segment ", segment), segment, want)
	}
}

// Segments that were made too short while relays run are lengthened at the next round.
func TestRingIsKeptLongEnough(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := maintain.NewRetention(store.Segments{Pool: b.OnePool()}, 12*time.Hour, slog.Default(), metrics.New(nil, nil))
	for _, length := range []string{"1 second", "10 minutes", "3 hours"} {
		b.Exec("SELECT postrider.set_segment_length($1::text::interval)", length)
		r.Turn(t.Context())
		if got := scalar[int64](b, "SELECT segment_seconds FROM postrider.source"); got < 3600 || length == "3 hours" && got != 3*3600 {
			t.Errorf("after %s: segments of %d s, a retention of 12 h", length, got)
		}
	}
}

func TestRetentionHasABound(t *testing.T) {
	open := func(context.Context, subscription.Subscription) (sinks.Sink, error) { return nil, nil }
	c := Config{Servers: Servers{DatabaseURL: "postgres://x"}, Open: open, Retention: 10*365*24*time.Hour + 1}
	if err := c.validate(); err == nil || !strings.Contains(err.Error(), "retention 87600h0m0.000000001s: must be at most 87600h0m0s") {
		t.Errorf("a retention of more than ten years: %v", err)
	}
}

// Whoever keeps a segment from being emptied for a while is named in the log, once; and again if it comes back.
func TestHoldersOfSegmentsAreNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, sql, end, want string }{
		{"select", "SELECT FROM postrider.outbox_2", "ROLLBACK", `application=the_reader state="idle in transaction" since=`},
		{"prepared", "INSERT INTO postrider.outbox (segment, topic, payload) VALUES (2, 'a', '1'); PREPARE TRANSACTION 'forgotten'", "ROLLBACK PREPARED 'forgotten'", "prepared_transaction=forgotten role=postgres state=prepared since="},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRing(t)
			r.fill(2, 2*time.Hour)
			conn := r.DB.Conn(t)
			run := func(sql string) { t.Helper(); _, err := conn.Exec(t.Context(), sql); mend(t, err) }
			run("SET application_name = 'the_reader'")
			for range 2 {
				run("BEGIN; " + c.sql)
				r.Patience = time.Hour
				r.Turn(t.Context())
				if r.log.Len() != 0 {
					t.Errorf("warned before its time: %s", &r.log)
				}
				r.Patience = 0
				r.Turn(t.Context())
				r.Turn(t.Context())
				if n := strings.Count(r.log.String(), "a segment cannot be emptied while it is in use"); n != 1 || !strings.Contains(r.log.String(), c.want) {
					t.Errorf("%d warnings, want 1 with %q:\n%s", n, c.want, &r.log)
				}
				r.log.Reset()
				run(c.end)
				r.Turn(t.Context())
				if r.rows(2) != 0 || r.log.Len() != 0 {
					t.Errorf("%d rows are left, log %q", r.rows(2), &r.log)
				}
				r.fill(2, 2*time.Hour)
			}
		})
	}
}
