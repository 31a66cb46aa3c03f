package torture

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// size is how much of the machine a relay takes when it is idle.
type size struct{ goroutines, heap, resident float64 }

// measure asks all relays, once they are idle, and returns the largest.
func (w *world) measure(ctx context.Context) (s size, err error) {
	for _, r := range w.relays {
		m, err := r.metrics(ctx)
		if err != nil {
			return s, err
		}
		s.goroutines = max(s.goroutines, m.value("go_goroutines"))
		s.heap = max(s.heap, m.value("go_memstats_heap_alloc_bytes"))
		s.resident = max(s.resident, m.value("process_resident_memory_bytes"))
	}
	return s, nil
}

// watch keeps the peak of the relays' memory.
func (w *world) watch(ctx context.Context) {
	for pause(ctx, 300*time.Millisecond) {
		for _, r := range w.relays {
			asking, cancel := context.WithTimeout(ctx, time.Second)
			m, err := r.metrics(asking)
			cancel()
			if err == nil { // else it is being tortured
				w.mu.Lock()
				w.peak = max(w.peak, m.value("process_resident_memory_bytes"))
				w.mu.Unlock()
			}
		}
	}
}

// spare is how many goroutines more than at the start may be there: one for each lane of 17 subscriptions, which starts with
// its first message, and two for each connection that the lanes of ten endpoints keep.
const spare = 17*16 + 2*10*16 + 20

// checkSize waits until goroutines and memory are back to where they were.
func (w *world) checkSize(ctx context.Context, before size) {
	w.fail(poll(ctx, 30*time.Second, func() error {
		now, err := w.measure(ctx)
		if err == nil && (now.goroutines > before.goroutines+spare || now.heap > before.heap+64<<20) {
			err = fmt.Errorf("a relay has %.0f goroutines and %.0f MiB on its heap, at the start it was %.0f and %.0f",
				now.goroutines, now.heap/(1<<20), before.goroutines, before.heap/(1<<20))
		}
		return err
	}))
}

// checkSlots waits until no replication slot is left.
func (w *world) checkSlots(ctx context.Context, patience time.Duration) {
	w.fail(poll(ctx, patience, func() error {
		slots, err := ask[string](ctx, w.db, "SELECT slot_name FROM pg_replication_slots")
		if err == nil && len(slots) > 0 {
			err = fmt.Errorf("replication slots are left: %s", strings.Join(slots, ", "))
		}
		return err
	}))
}

// checkSettled waits until nothing is parked but what has to be: dead letters, and what they hold.
func (w *world) checkSettled(ctx context.Context, t *truth) {
	w.fail(poll(ctx, settleTime, func() error {
		is, err := w.parked(ctx)
		if err == nil {
			err = w.loadLog(ctx, t) // which goes on: events are told
		}
		if err != nil {
			return err
		}
		e := &evidence{truth: t}
		want := make(map[string]bool)
		for _, s := range w.subs {
			dead, held := e.parked(s.Expectation)
			for id := range dead {
				want[s.Name+" dead "+idString(id)] = true
			}
			for id := range held {
				want[s.Name+" held "+idString(id)] = true
			}
		}
		return compareParked(is, want)
	}))
}

// parked returns what is parked: subscription, state and message. What was discarded counts as dead.
func (w *world) parked(ctx context.Context) (list []string, err error) {
	return ask[string](ctx, w.db, `SELECT subscription || ' ' || CASE state WHEN 'discarded' THEN 'dead' ELSE state END || ' '
		|| coalesce(((payload->>'id')::bigint / 1048576) || '.' || ((payload->>'id')::bigint % 1048576), 'row ' || id)
		|| CASE WHEN state = 'dead' AND coalesce(reason, '') = '' THEN ' without a reason' ELSE '' END
		FROM postrider.parked WHERE state NOT IN ('completed', 'cancelled')`)
}

// compareParked says what is parked and should not be, and what is not and should.
func compareParked(rows []string, want map[string]bool) error {
	var wrong []string
	is := make(map[string]bool, len(rows))
	for _, row := range rows {
		is[row] = true
		if !want[row] {
			wrong = append(wrong, row)
		}
	}
	for row := range want {
		if !is[row] {
			wrong = append(wrong, "not "+row)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("parked is wrong in %d places, such as %s", len(wrong), strings.Join(wrong[:min(len(wrong), 10)], "; "))
	}
	return nil
}

// segmentsHeld names who needs what of the ring. Schedules and events go on, and may commit after all that was waited for though they began
// before it: what they have written does not count, and neither do those who get it.
const segmentsHeld = `SELECT c.subscription || ' holds segment ' || o.segment || ' for ' || string_agg(DISTINCT o.topic::text, ', ') FROM postrider.outbox o, postrider.cursors c
	WHERE (o.xid >= pg_snapshot_xmax(c.base) OR o.xid IN (SELECT pg_snapshot_xip(c.base))) AND o.created_at <= $1
	AND c.subscription NOT IN ('alerts', 'ticks') AND o.topic::text NOT LIKE 'tick.%' AND o.topic::text NOT LIKE '$postrider.%' GROUP BY c.subscription, o.segment`

// checkSegments waits until no subscription holds a segment of the ring: everything is behind every base. A cursor that gets nothing is
// saved once a minute, so that each has got something.
func (w *world) checkSegments(ctx context.Context) {
	w.fail(poll(ctx, settleTime, func() error {
		held, err := ask[string](ctx, w.db, segmentsHeld, w.apps.history.awaited)
		if err == nil && len(held) > 0 {
			err = fmt.Errorf("segments cannot be emptied: %s", strings.Join(held, ", "))
		}
		return err
	}))
}

// checkLeftovers looks at what stopped relays leave behind.
func (w *world) checkLeftovers(ctx context.Context) {
	w.checkSlots(ctx, 0)
	for what, sql := range map[string]string{
		"relays that are still registered": "SELECT name FROM postrider.relays",
		"cursors that still have an owner": "SELECT subscription FROM postrider.cursors WHERE owner IS NOT NULL",
		"messages that count as pending":   "SELECT subscription || ' ' || id FROM postrider.deliveries WHERE status = 'pending' AND subscription NOT IN ('alerts', 'ticks') LIMIT 10", // these go on
	} {
		list, err := ask[string](ctx, w.db, sql)
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("%s: %s", what, strings.Join(list, ", "))
		}
		w.fail(err)
	}
}
