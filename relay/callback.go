package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

const (
	lookEvery  = 500 * time.Millisecond // between looks for callbacks, while there are deliveries that wait for one
	lookAtMost = 1000                   // deliveries of a subscription in one look
)

// calledBack is a delivery whose callback came, or whose lease is over.
type calledBack struct {
	name   string
	row    snapshot.Ident
	state  string // completed, failed or, if the lease is over, leased
	due    *time.Time
	reason string
}

// A lease that is over is locked for a moment: a heartbeat that began before its end may be about to commit. A callback that
// somebody leaves open in a session keeps its own delivery waiting, and nothing else.
var (
	lookCallbacks = `SELECT n.name, p.* FROM unnest($1::text[]) n (name) CROSS JOIN LATERAL (
		SELECT id, timestamptz_send(created_at), state, timestamptz_send(due), coalesce(reason, '') FROM postrider.parked
		WHERE subscription = n.name AND state IN (` + states.SQL(states.State.CalledBack) + `) ORDER BY id LIMIT $2) p`
	lookLeases = `SELECT n.name, p.* FROM unnest($1::text[]) n (name) CROSS JOIN LATERAL (
		SELECT id, timestamptz_send(created_at), state, timestamptz_send(due), coalesce(reason, '') FROM postrider.parked
		WHERE subscription = n.name AND state = '` + states.Leased + `' AND due <= clock_timestamp() LIMIT $2 FOR UPDATE SKIP LOCKED) p`
)

// lookForCallbacks concludes deliveries that a destination had taken over, as their callbacks say or because there was none.
func (g *generation) lookForCallbacks(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.look:
		case <-ticker.C:
		}
		runners := g.running()
		var names []string
		for name, r := range runners {
			if r.awaitsCallbacks() {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			continue
		}
		most := g.lookMost
		found, err := g.lookUp(ctx, names)
		if err != nil {
			if ctx.Err() == nil {
				g.lookFailed(names, err)
			}
			continue
		}
		g.lookMost = min(2*g.lookMost, lookAtMost)
		g.health.Works(health.CannotCallBack, names...)
		concluded := 0
		for _, c := range found {
			if runners[c.name].calledBack(c, time.Now()) {
				concluded++
			}
		}
		if concluded >= most { // there may be more; what was found before waits for its save
			async.Signal(g.look)
		}
	}
}

// lookFailed makes the next look smaller, and what fails the trouble of those who wait for it.
func (g *generation) lookFailed(names []string, err error) {
	if store.IsCutOff(err) {
		g.lookMost = max(g.lookMost/2, 1)
	}
	g.health.Failed(health.CannotCallBack, err, names...)
}

func (g *generation) lookUp(ctx context.Context, names []string) (found []calledBack, err error) {
	err = store.WriteLocal(ctx, g.pool, func(b *pgx.Batch) { // it locks
		for _, query := range []string{lookCallbacks, lookLeases} {
			b.Queue(query, names, g.lookMost).Query(func(rows pgx.Rows) error {
				some, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c calledBack, err error) {
					return scanCalledBack(r)
				})
				found = append(found, some...)
				return err
			})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for callbacks: %w", err)
	}
	return found, nil
}

// scanCalledBack takes times as PostgreSQL has them: infinity must not fail the look for all subscriptions.
func scanCalledBack(r pgx.CollectableRow) (c calledBack, err error) {
	var created, due []byte
	if err := r.Scan(&c.name, &c.row.ID, &created, &c.state, &due, &c.reason); err != nil {
		return c, err
	}
	var err1, err2 error
	c.row.Born, err1 = message.DecodeInt(created)
	if due != nil {
		c.due = new(time.Time)
		*c.due, err2 = message.DecodeTime(due)
	}
	return c, errors.Join(err1, err2)
}
