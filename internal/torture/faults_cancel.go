package torture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// cancelFault is in the list of what applications do.
var cancelFault = &Fault{Name: "cancel", About: "new messages are cancelled for one subscription", Hits: onApplication, Inject: cancelSome}

// Messages that may be cancelled: each of these subscriptions wants them all.
var (
	cancellers      = []string{"victim", "loose", pulled, taken}
	cancellable     = []string{"audit.login.failed"}
	cancelledAtOnce = 10
)

// cancels are messages that somebody wanted cancelled, by subscription.
type cancels struct {
	mu    sync.Mutex
	asked map[string]map[int64]bool
}

func (c *cancels) ask(subscription string, id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		c.asked = make(map[string]map[int64]bool)
	}
	if c.asked[subscription] == nil {
		c.asked[subscription] = make(map[int64]bool)
	}
	c.asked[subscription][id] = true
}

// unasked leaves of the messages those that nobody wanted cancelled.
func (c *cancels) unasked(subscription string, ids []int64) []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(ids, func(id int64) bool { return c.asked[subscription][id] })
}

// cancelSome cancels some of the newest messages, of which most wait and some are out.
func cancelSome(ctx context.Context, w *world, rng *rand.Rand) error {
	var names []string
	for _, s := range w.subs {
		if slices.Contains(cancellers, s.Name) {
			names = append(names, s.Name)
		}
	}
	name := names[rng.IntN(len(names))]
	found := make(map[int64]int64)
	err := poll(ctx, time.Minute, func() error {
		rows, err := w.db.admin.Query(ctx, "SELECT id, (payload->>'id')::bigint FROM postrider.outbox WHERE topic = ANY ($1) ORDER BY id DESC LIMIT 100", cancellable)
		if err != nil {
			return err
		}
		var row, id int64
		_, err = pgx.ForEachRow(rows, []any{&row, &id}, func() error { found[row] = id; return nil })
		return err
	})
	rows := slices.Sorted(maps.Keys(found))
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	for _, row := range rows[:min(len(rows), cancelledAtOnce)] {
		w.apps.history.cancels.ask(name, found[row])
		err = errors.Join(err, poll(ctx, time.Minute, func() error {
			_, err := w.db.admin.Exec(ctx, "SELECT postrider.cancel($1, $2, 'nobody wants it')", row, name)
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "55P03" || pgErr.Code == "22023") {
				return nil // a worker has it, or its segment was emptied meanwhile
			}
			return err
		}))
	}
	return err
}

// loadCancelled tells the truth which messages were cancelled, and when.
func (w *world) loadCancelled(ctx context.Context, t *truth) error {
	return poll(ctx, time.Minute, func() error {
		t.cancelled = make(map[string]map[int64]time.Time)
		rows, err := w.db.admin.Query(ctx, `SELECT subscription, coalesce((payload->>'id')::bigint, 0), updated_at FROM postrider.parked WHERE state = 'cancelled'`)
		if err != nil {
			return err
		}
		var name string
		var id int64
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&name, &id, &at}, func() error {
			if t.cancelled[name] == nil {
				t.cancelled[name] = make(map[int64]time.Time)
			}
			t.cancelled[name][id] = at
			return nil
		})
		return err
	})
}

// checkCancels waits until all that was to be cancelled is, or was too late.
func (w *world) checkCancels(ctx context.Context) {
	w.fail(poll(ctx, settleTime, func() error {
		n, err := one[int](ctx, w.db, "SELECT count(*)::int FROM postrider.cancels")
		if err == nil && n > 0 {
			err = fmt.Errorf("%d messages are still to be cancelled", n)
		}
		return err
	}))
}

// judgeCancelled finds messages that were delivered although they had been cancelled.
func (e *evidence) judgeCancelled(f *finding, x Expectation, arrivals []Arrival) {
	for _, a := range arrivals {
		if at, ok := e.truth.cancelled[x.Name][a.ID]; ok && a.At.After(at.Add(x.Late)) {
			f.violate("delivered at %s, but cancelled at %s: message %s", clock(a.At), clock(at), idString(a.ID))
		}
	}
	f.cancelled = len(e.truth.cancelled[x.Name])
}
