package torture

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// outcome is what a worker keeps as the result of a job: which attempt it was.
type outcome struct {
	Run     int64 `json:"run"`
	Attempt int   `json:"attempt"`
}

// runs are the attempts of workers, by number.
type runs struct {
	mu   sync.Mutex
	list []run
}

// run is one of them.
type run struct {
	wire string // which message it was
	done bool   // it said so
}

// begin numbers an attempt, from 1.
func (r *runs) begin(wire string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, run{wire: wire})
	return int64(len(r.list))
}

func (r *runs) end(n int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[n-1].done = err == nil
}

// kept is a result that was kept.
type kept struct {
	Subscription string
	Wire         string
	Run          int64
	Attempt      int
	Accepted     *int // of the accepted attempt that was written with it
}

// loadResults tells the truth which results were kept.
func (w *world) loadResults(ctx context.Context, t *truth) error {
	return poll(ctx, time.Minute, func() error {
		rows, err := w.db.admin.Query(ctx, `SELECT r.subscription, r.id || ' ' || (extract(epoch FROM r.created_at) * 1000000)::bigint, (r.result->>'run')::bigint, (r.result->>'attempt')::int, a.attempt
			FROM torture.results r LEFT JOIN torture.accepted a ON a.id = r.id AND a.xid = r.xid AND a.created_at = r.created_at AND a.subscription = r.subscription`)
		if err == nil {
			t.results, err = pgx.CollectRows(rows, pgx.RowToStructByPos[kept])
		}
		return err
	})
}

// judge finds results that are not of the attempt that settled, and messages that were settled without theirs. settled are the ids on the wire of what
// each subscription got, effects says which run each was of, in SQL.
func (r *runs) judge(t *truth, settled map[string]map[string]bool, effects map[string]int64) (violations []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	has := map[string]map[string]bool{pulled: {}, taken: {}}
	for _, k := range t.results {
		if has[k.Subscription] == nil || k.Run < 1 || k.Run > int64(len(r.list)) {
			violations = append(violations, fmt.Sprintf("%s: a result of run %d for message %s: there was none", k.Subscription, k.Run, k.Wire))
			continue
		}
		again := has[k.Subscription][k.Wire]
		has[k.Subscription][k.Wire] = true
		what := k.mismatch(r.list[k.Run-1])
		if k.Subscription == taken {
			what = cmp.Or(what, k.mismatchInSQL(effects[k.Wire], again))
		} else {
			what = cmp.Or(what, k.mismatchOverHTTP())
		}
		if what != "" {
			violations = append(violations, fmt.Sprintf("%s: the result of message %s %s", k.Subscription, k.Wire, what))
		}
	}
	for name, wires := range settled {
		for wire := range wires {
			if !has[name][wire] {
				violations = append(violations, fmt.Sprintf("%s: message %s was settled without its result", name, wire))
			}
		}
	}
	return violations
}

// mismatch says what is wrong with a result of a run.
func (k kept) mismatch(of run) string {
	switch {
	case of.wire != k.Wire:
		return "is that of " + of.wire
	case !of.done:
		return fmt.Sprintf("is of run %d, which was not done", k.Run)
	}
	return ""
}

func (k kept) mismatchInSQL(effect int64, again bool) string {
	switch {
	case effect != k.Run:
		return fmt.Sprintf("is of run %d, its effects are of run %d", k.Run, effect)
	case again:
		return "was kept twice"
	}
	return ""
}

func (k kept) mismatchOverHTTP() string {
	if k.Accepted != nil && *k.Accepted == k.Attempt {
		return ""
	}
	return fmt.Sprintf("is of attempt %d, and settled was %s", k.Attempt, attemptText(k.Accepted))
}

func attemptText(n *int) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint("attempt ", *n)
}
