package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Registry is the table of relays, where each has one row while it lives.
type Registry struct {
	Pool        *dbconn.Pool
	Incarnation string // whose row is the own one
}

// Registration is what a relay's row says of it.
type Registration struct {
	Name     string
	Version  string  // of the build
	Schema   int     // the newest that the build knows
	Declared []byte  // JSON: what the process was started with
	URL      *string // where other relays reach it, nil if they cannot
}

// Register makes the own row, whose presence shows that nothing has happened that would void snapshots in memory.
func (r Registry) Register(ctx context.Context, g Registration) error {
	storable := r.Pool.Encoding().Storable
	err := writeLocal(ctx, r.Pool, func(b *pgx.Batch) {
		b.Queue("INSERT INTO postrider.relays (incarnation, name, version, declared, schema, url) VALUES ($1, $2, $3, $4::text::jsonb, $5, $6)",
			r.Incarnation, storable(g.Name), g.Version, storable(string(g.Declared)), g.Schema, g.URL)
	})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return nil
}

// Deregister releases all cursors of the relay and removes its row.
func (r Registry) Deregister(ctx context.Context) error {
	return writeLocal(ctx, r.Pool, func(b *pgx.Batch) {
		b.Queue("UPDATE postrider.cursors SET owner = NULL WHERE owner = $1", r.Incarnation) // those that were taken, but not begun
		b.Queue("DELETE FROM postrider.relays WHERE incarnation = $1", r.Incarnation)
	})
}

// Peer is one relay's row.
type Peer struct {
	Incarnation string
	Name        string
	Counter     int64            // changes while the relay lives
	Unable      map[string]int64 // versions of the subscriptions that it cannot deliver
}

// Peers reads all rows, the own one included, the eldest first.
func (r Registry) Peers(ctx context.Context) (peers []Peer, err error) {
	rows, err := r.Pool.Query(ctx, `SELECT incarnation::text, counter, name,
		(SELECT jsonb_object_agg(key, value -> 'version') FROM jsonb_each(CASE jsonb_typeof(unable) WHEN 'object' THEN unable END))::text FROM postrider.relays ORDER BY started_at, incarnation`)
	if err != nil {
		return nil, fmt.Errorf("read relays: %w", err)
	}
	var p Peer
	var unable []byte
	_, err = pgx.ForEachRow(rows, []any{&p.Incarnation, &p.Counter, &p.Name, &unable}, func() error {
		p.Unable = nil
		if unable != nil && json.Unmarshal(unable, &p.Unable) != nil {
			p.Unable = nil // another build's: as if it could deliver everything
		}
		unable = nil
		peers = append(peers, p)
		return nil
	})
	return peers, err
}

// Bump changes the own counter, so that others see that the relay lives. It returns ErrLost if the row is gone.
func (r Registry) Bump(ctx context.Context) error {
	var n int64
	err := writeLocal(ctx, r.Pool, func(b *pgx.Batch) {
		b.Queue("UPDATE postrider.relays SET counter = counter + 1, seen_at = clock_timestamp() WHERE incarnation = $1 RETURNING counter", r.Incarnation).
			QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrLost
	}
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	return nil
}

// Bury removes the row of a relay that is silent, if its counter is still the one that was seen.
func (r Registry) Bury(ctx context.Context, incarnation string, counter int64) error {
	err := writeLocal(ctx, r.Pool, func(b *pgx.Batch) {
		b.Queue("DELETE FROM postrider.relays WHERE incarnation = $1 AND counter = $2", incarnation, counter)
	})
	if err != nil {
		return fmt.Errorf("remove a silent relay: %w", err)
	}
	return nil
}

// Declared is what a relay was started with for one subscription.
type Declared struct {
	Relay, Incarnation string // the first eight characters
	Subscription       string
	Sum, Sink          string
}

// DeclaredBy reads what other relays were started with.
func (r Registry) DeclaredBy(ctx context.Context, incarnations []string) ([]Declared, error) {
	rows, err := r.Pool.Query(ctx, `SELECT r.name, left(r.incarnation::text, 8), d.key, coalesce(d.value ->> 'sum', ''), coalesce(d.value ->> 'sink', '')
		FROM postrider.relays r CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(r.declared) WHEN 'object' THEN r.declared ELSE '{}' END) d
		WHERE r.incarnation::text = ANY ($1)`, incarnations)
	if err != nil {
		return nil, fmt.Errorf("read relays: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Declared])
}

// LeaveToOthers releases the own cursors of some subscriptions and writes down, as JSON, what the relay cannot deliver and why.
func (r Registry) LeaveToOthers(ctx context.Context, subscriptions []string, unable string) error {
	err := writeLocal(ctx, r.Pool, func(b *pgx.Batch) {
		b.Queue("UPDATE postrider.cursors SET owner = NULL WHERE owner = $1 AND subscription = ANY ($2::text[])", r.Incarnation, subscriptions)
		b.Queue("UPDATE postrider.relays SET unable = $2::text::jsonb WHERE incarnation = $1", r.Incarnation, unable)
	})
	if err != nil {
		return fmt.Errorf("leave subscriptions to other relays: %w", err)
	}
	return nil
}
