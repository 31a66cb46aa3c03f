package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// event is what a message of an operator's event says.
type event struct {
	Event, Subscription, Schedule string
	Count                         int
	FirstAt                       string `json:"first_at"`
	Messages                      []json.RawMessage
}

// disliked says whether the endpoint of events refuses one, always: what becomes a dead letter then must make no event.
func disliked(payload []byte) bool {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return false // it is told where the payload is judged
	}
	h := fnv.New32a()
	h.Write([]byte(e.FirstAt)) // never fails
	return h.Sum32()%4 == 0
}

// uncounted are kinds of which it is not promised that they are complete: no statement makes them happen.
var uncounted = []string{"worker_lost", "retention_held"}

// happening is what happened of one kind to one subscription, in one of its parts.
type happening struct {
	Kind, Subject, Part string
	Own                 bool // to messages of events
	N                   int
}

// waiting are the events of which no message was made yet.
type waiting struct {
	Kind, Subject string
	N             int
}

// loadEvents tells the truth what has happened, and what waits to be told.
func (w *world) loadEvents(ctx context.Context, t *truth) error {
	return poll(ctx, time.Minute, func() error {
		rows, err := w.db.admin.Query(ctx, "SELECT kind, subject, coalesce(part, ''), coalesce(own, false), count(*)::int FROM torture.happened GROUP BY 1, 2, 3, 4")
		if err == nil {
			t.happened, err = pgx.CollectRows(rows, pgx.RowToStructByPos[happening])
		}
		if err == nil {
			rows, err = w.db.admin.Query(ctx, "SELECT kind, subject, count(*)::int FROM postrider.events GROUP BY 1, 2")
		}
		if err == nil {
			t.waiting, err = pgx.CollectRows(rows, pgx.RowToStructByPos[waiting])
		}
		return err
	})
}

// tellEvents has told what waits for more of its kind.
func (w *world) tellEvents(ctx context.Context) {
	if !w.hasJobs() {
		return
	}
	w.fail(poll(ctx, settleTime, func() error {
		untold, err := ask[string](ctx, w.db, "SELECT DISTINCT kind || ' ' || subject FROM postrider.events WHERE happened_at < clock_timestamp() - interval '30 s' LIMIT 10")
		if err == nil && len(untold) > 0 {
			err = fmt.Errorf("events are not told: %s", strings.Join(untold, ", "))
		}
		return err
	}))
	w.fail(w.db.try(ctx, "SELECT postrider.tell_events('0')"))
}

// judgeEvents compares what was told with what has happened. missed says how often runs of schedules were lost.
func (t *truth) judgeEvents(missed map[string]int) (violations []string) {
	told, violations := t.told()
	maps.DeleteFunc(told, func(name string, _ int) bool {
		kind, _, _ := strings.Cut(name, ".")
		return slices.Contains(uncounted, kind)
	})
	all, most := t.toTell()
	for schedule, n := range missed {
		name := "schedule_missed." + schedule
		if n < 0 && told[name] > 0 {
			all[name], most[name] = told[name], 1 // that it was right to skip does not show
		} else if n > 0 {
			all[name], most[name] = n, n
		}
	}
	for name, n := range all {
		if told[name] < most[name] || told[name] > n {
			violations = append(violations, fmt.Sprintf("events %s: %d happened, %d were told", name, n, told[name]))
		}
	}
	for name, n := range told {
		if all[name] == 0 {
			violations = append(violations, fmt.Sprintf("events %s: %d were told, and nothing happened", name, n))
		}
	}
	return violations
}

// told adds up what messages tell, and what waits to be told.
func (t *truth) told() (told map[string]int, violations []string) {
	told = make(map[string]int)
	for _, r := range t.log {
		name, isEvent := strings.CutPrefix(r.Topic, "$postrider.")
		if !isEvent {
			continue
		}
		var e event
		err := json.Unmarshal(r.Payload, &e)
		if name == "retention_held._locks" { // of no subscription
			e.Subscription = "_locks"
		}
		switch {
		case err != nil || e.Count < 1 || name != e.Event+"."+e.Subscription+e.Schedule || r.Key != e.Subscription+e.Schedule:
			violations = append(violations, fmt.Sprintf("event %s with key %q says %s (%v)", r.Topic, r.Key, r.Payload, err))
		case e.Event == "dead" && len(e.Messages) != min(e.Count, 10):
			violations = append(violations, fmt.Sprintf("event %s tells of %d messages and names %d", r.Topic, e.Count, len(e.Messages)))
		}
		told[name] += e.Count
	}
	for _, e := range t.waiting {
		told[e.Kind+"."+e.Subject] += e.N
	}
	return told, violations
}

// toTell adds up what has happened, in all and in the part that has most of it: each part tells of one destination.
func (t *truth) toTell() (all, most map[string]int) {
	all, most = make(map[string]int), make(map[string]int)
	for _, h := range t.happened {
		if name := h.Kind + "." + h.Subject; !h.Own {
			all[name] += h.N
			most[name] = max(most[name], h.N)
		}
	}
	return all, most
}
