package relay

import (
	"context"
	"fmt"
	"testing"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// prioritized inserts n messages of a priority in one transaction and returns their ids.
func (s *scene) prioritized(priority, n int) (ids []int64) {
	s.t.Helper()
	rows, err := s.App.Query(s.t.Context(), `INSERT INTO postrider.outbox (topic, key, payload, priority)
		SELECT 'work', 'key-' || g % 23, to_jsonb(g), $1::int FROM generate_series(1, $2::int) g RETURNING id`, priority, n)
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if rows.Err() != nil {
		s.t.Fatal(rows.Err())
	}
	return ids
}

// An urgent message passes a backlog, in whichever order the table has them, and whether it was there before the relay or not.
func TestUrgentPassesABacklog(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{work}", `{"priorities": true, "ordering": "none", "lanes": 1, "batch": 1}`)
	turns := make(chan struct{})
	a.plays(func(ctx context.Context, d sinks.Delivery) error {
		select {
		case <-turns:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	s.prioritized(3, 30_000)
	first := s.prioritized(1, 1)[0]
	r := s.play()
	tasks := func() int {
		g := r.now.Load()
		if g == nil {
			return 0
		}
		run := g.running()[subscription.Whole("sub")]
		if run == nil {
			return 0
		}
		return run.Inside().Tasks
	}
	const most = 64 // that are taken in of a class
	eventually(t, "the lanes have all they take of the backlog, and the urgent message", func() bool { return tasks() == most+1 })
	began := len(a.all())
	turns <- struct{}{} // what was begun before
	turns <- struct{}{}
	eventually(t, "the urgent message from before the relay's start is the second at the latest", func() bool { return len(a.of(first)) == 1 })
	var urgent []int64
	for n := range 3 {
		eventually(t, "the backlog has filled its room again", func() bool { return tasks() == most })
		urgent = append(urgent, s.prioritized(1, 1)[0])
		eventually(t, "the urgent message is in", func() bool { return tasks() == most+1 })
		turns <- struct{}{}
		turns <- struct{}{}
		eventually(t, fmt.Sprintf("urgent message %d is the next but one at the latest", n), func() bool { return len(a.of(urgent[n])) == 1 })
	}
	if n := len(a.all()); n > began+10 {
		t.Errorf("%d deliveries were begun for four urgent messages", n)
	}
	if row := a.of(urgent[0])[0]; row.Priority != 1 {
		t.Errorf("the sink was told the priority %d", row.Priority)
	}
	s.shows("sub", "delivered", first, urgent[0], urgent[1])
	if lag := scalar[int](s.bench, "SELECT lag_messages::int FROM postrider.subscription_status WHERE name = 'sub' AND lag_more"); lag < 10_000 {
		t.Errorf("status shows %d messages behind, want ten thousand and more", lag)
	}
	close(turns)
	s.settledAll("sub")
	a.exactly(t, s.stored())
}

// Priorities that are turned on again in the very moment in which they went off are on: whoever loads the cursor has the new setting, and
// would hear of no change.
func TestPrioritiesAreTurnedOnAgainAtOnce(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{work}", `{"priorities": true}`)
	s.play()
	classes := func() string {
		return scalar[string](s.bench, "SELECT string_agg(class::text, ',' ORDER BY class) FROM postrider.cursors")
	}
	eventually(t, "priorities are on", func() bool { return classes() == "1,2,3,4" })
	s.Exec(`CREATE TABLE public.turned (at timestamptz DEFAULT now());
		CREATE FUNCTION public.turn_on() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			INSERT INTO public.turned DEFAULT VALUES;
			UPDATE postrider.subscriptions SET settings = '{"priorities": true}';
			RETURN NULL;
		END $$;
		CREATE TRIGGER turn_on AFTER UPDATE OF class ON postrider.cursors FOR EACH ROW WHEN (NEW.class = 0) EXECUTE FUNCTION public.turn_on()`)
	s.Exec(`UPDATE postrider.subscriptions SET settings = '{"priorities": false}'`)
	eventually(t, "they were off and are on", func() bool {
		return scalar[int](s.bench, "SELECT count(*)::int FROM public.turned") == 1 && classes() == "1,2,3,4"
	})
	a.got(t, s.prioritized(1, 1))
}

// Priorities are turned on and off while messages come: none is lost, none comes twice, and in the end one cursor has all.
func TestPrioritiesAreTurnedOnAndOff(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{work}", `{"lanes": 4, "backoff_initial": "1ms", "backoff_max": "2ms"}`)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		if d.ID%50 == 0 && d.Attempt < 3 {
			return sinks.Retryable(errScene, 0)
		}
		return nil
	})
	s.play()
	classes := func() string {
		return scalar[string](s.bench, "SELECT string_agg(class::text, ',' ORDER BY class) FROM postrider.cursors")
	}
	for round := range 4 {
		want := map[bool]string{true: "1,2,3,4", false: "0"}[round%2 == 0]
		for priority := range 4 {
			s.prioritized(4-priority, 60)
		}
		s.Exec(`UPDATE postrider.subscriptions SET settings = jsonb_set(settings, '{priorities}', to_jsonb($1::boolean))`, round%2 == 0)
		for priority := range 4 {
			s.prioritized(priority+1, 60)
		}
		eventually(t, "the cursors are of the classes "+want, func() bool { return classes() == want })
	}
	s.settledAll("sub")
	for key := range 23 {
		last := map[int16]int64{}
		for _, id := range a.accepted(fmt.Sprint("key-", key)) {
			priority := a.of(id)[0].Priority
			if id <= last[priority] {
				t.Errorf("key %d, priority %d: message %d was accepted after %d", key, priority, id, last[priority])
			}
			last[priority] = id
		}
	}
	attempts := map[int64]int{}
	for _, d := range a.all() {
		if d.err == nil {
			attempts[d.ID]++
		}
	}
	for _, id := range s.stored() {
		if attempts[id] != 1 {
			t.Errorf("message %d was accepted %d times", id, attempts[id])
		}
	}
}
