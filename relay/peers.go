package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

func (o *owner) readPeers(ctx context.Context) (peers, error) {
	p := peers{counters: make(map[string]int64), names: make(map[string]string), unable: make(map[string]map[string]int64)}
	rows, err := o.pool.Query(ctx, `SELECT incarnation::text, counter, name,
		(SELECT jsonb_object_agg(key, value -> 'version') FROM jsonb_each(CASE jsonb_typeof(unable) WHEN 'object' THEN unable END))::text FROM postrider.relays`)
	if err != nil {
		return p, fmt.Errorf("read relays: %w", err)
	}
	var incarnation, name string
	var counter int64
	var unable []byte
	_, err = pgx.ForEachRow(rows, []any{&incarnation, &counter, &name, &unable}, func() error {
		p.counters[incarnation], p.names[incarnation] = counter, name
		var versions map[string]int64
		if unable != nil && json.Unmarshal(unable, &versions) == nil { // else another build's: as if it could deliver everything
			p.unable[incarnation] = versions
		}
		unable = nil
		return nil
	})
	return p, err
}

// watchPeers bumps the own counter while there is somebody to see it, and removes the rows of relays that are silent.
func (o *owner) watchPeers(ctx context.Context, p peers) error {
	now := time.Now()
	var met []string
	for other, counter := range p.counters {
		if other == o.incarnation {
			continue
		}
		w, known := o.others[other]
		if !known || w.counter != counter {
			o.others[other] = watched{counter, now, p.names[other]}
			if !known {
				met = append(met, other)
			}
			continue
		}
		if now.Sub(w.since) < o.config.Lease {
			continue
		}
		o.log.Warn("another relay is silent: its cursors are free", "relay", w.name, "incarnation", Short(other), "lease", o.config.Lease)
		err := store.WriteLocal(ctx, o.pool, func(b *pgx.Batch) {
			b.Queue("DELETE FROM postrider.relays WHERE incarnation = $1 AND counter = $2", other, counter)
		})
		if err != nil {
			return fmt.Errorf("remove a silent relay: %w", err)
		}
		delete(p.counters, other)
	}
	if err := o.compare(ctx, met); err != nil {
		return err
	}
	for name := range o.others {
		if _, there := p.counters[name]; !there {
			delete(o.others, name)
		}
	}
	every := o.config.Lease / 3
	if len(p.counters) < 2 { // nobody looks at the counter; but where our sessions do not show who we are, the time has to
		if o.hasOwnName {
			return nil
		}
		every = aloneBump
	}
	if now.Sub(o.bumped) < every-o.pollInterval()/2 {
		return nil
	}
	o.bumped = now
	return o.bump(ctx)
}

func (o *owner) bump(ctx context.Context) error {
	var n int64
	err := store.WriteLocal(ctx, o.pool, func(b *pgx.Batch) {
		b.Queue("UPDATE postrider.relays SET counter = counter + 1, seen_at = clock_timestamp() WHERE incarnation = $1 RETURNING counter", o.incarnation).
			QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return store.ErrLost
	}
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	o.polls.confirm(o.bumped, o.config.Lease)
	return nil
}

func (o *owner) readStandings(ctx context.Context) (map[subscription.Part]standing, error) {
	rows, err := o.pool.Query(ctx, `SELECT s.name, c.shard, s.version, s.state = 'active', coalesce(s.paused_reason, ''), c.epoch, c.owner::text
		FROM postrider.subscriptions s JOIN postrider.cursors c ON c.subscription = s.name`)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	standings := make(map[subscription.Part]standing)
	var s standing
	_, err = pgx.ForEachRow(rows, []any{&s.part.Subscription, &s.part.Shard, &s.version, &s.active, &s.reason, &s.epoch, &s.owner}, func() error {
		standings[s.part] = s
		s.owner = nil
		return nil
	})
	return standings, err
}
