package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/subscription"
)

// Standing is what one read shows of a part: the cursors of all its classes, and their subscription.
type Standing struct {
	Part    subscription.Part
	Version int64 // of the subscription
	Active  bool
	Reason  string // of a pause
	Epoch   int64
	Owner   *string
}

// Name is the subscription's.
func (s Standing) Name() string { return s.Part.Subscription }

// OwnedBy says whether a relay owns it.
func (s Standing) OwnedBy(incarnation string) bool { return s.Owner != nil && *s.Owner == incarnation }

// Standings looks at all cursors.
func (d Database) Standings(ctx context.Context) (all []Standing, err error) {
	rows, err := d.Pool.Query(ctx, `SELECT s.name, c.shard, s.version, s.state = 'active', coalesce(s.paused_reason, ''), c.epoch, c.owner::text
		FROM postrider.subscriptions s JOIN postrider.cursors c ON c.subscription = s.name`)
	if err != nil {
		return nil, fmt.Errorf("read subscriptions: %w", err)
	}
	var s Standing
	_, err = pgx.ForEachRow(rows, []any{&s.Part.Subscription, &s.Part.Shard, &s.Version, &s.Active, &s.Reason, &s.Epoch, &s.Owner}, func() error {
		all = append(all, s)
		s.Owner = nil
		return nil
	})
	return all, err
}

// Subscription reads what one subscription is, with its settings as they are stored. There are no defaults in them yet.
func (d Database) Subscription(ctx context.Context, name string) (s subscription.Subscription, settings []byte, version int64, err error) {
	err = d.Pool.QueryRow(ctx, "SELECT name, topics, sink, settings, version FROM postrider.subscriptions WHERE name = $1", name).
		Scan(&s.Name, &s.Topics, &s.Sink, &settings, &version)
	return s, settings, version, err
}

// Release gives a cursor back, whatever its epoch: a command that raised it has left the cursor ours.
func (d Database) Release(ctx context.Context, p subscription.Part) error {
	return writeLocal(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue("UPDATE postrider.cursors SET owner = NULL WHERE subscription = $1 AND shard = $2 AND owner = $3", p.Subscription, p.Shard, d.Incarnation)
	})
}

// NoteTrouble writes down why the own cursors of a subscription stand still.
func (d Database) NoteTrouble(ctx context.Context, name, trouble string) error {
	return writeLocal(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue("UPDATE postrider.cursors SET trouble = $3 WHERE subscription = $2 AND owner = $1 AND trouble IS DISTINCT FROM $3", d.Incarnation, name, trouble)
	})
}

// Pause pauses a subscription with a reason, if some cursor of it is still the relay's own, and returns the subscription's version then, else 0.
// With release it gives the cursors back too.
func (d Database) Pause(ctx context.Context, name, reason string, release bool) (version int64, err error) {
	err = writeLocal(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue(`UPDATE postrider.subscriptions s SET state = 'paused', paused_reason = $3
			WHERE s.name = $2 AND EXISTS (SELECT FROM postrider.cursors c WHERE c.subscription = s.name AND c.owner = $1)
			RETURNING version`, d.Incarnation, name, d.Pool.Encoding().Storable(reason)).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(&version); err != nil {
					return err
				}
			}
			return rows.Err()
		})
		if release {
			b.Queue("UPDATE postrider.cursors SET owner = NULL WHERE subscription = $2 AND owner = $1", d.Incarnation, name)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("pause subscription %s: %w", name, err)
	}
	return version, nil
}

// PauseVersion pauses a subscription that nobody owns, unless it has been changed since that version.
func (d Database) PauseVersion(ctx context.Context, name string, version int64, reason string) error {
	err := writeLocal(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue("UPDATE postrider.subscriptions SET state = 'paused', paused_reason = $3 WHERE name = $1 AND version = $2", name, version, d.Pool.Encoding().Storable(reason))
	})
	if err != nil {
		return fmt.Errorf("pause subscription %s: %w", name, err)
	}
	return nil
}
