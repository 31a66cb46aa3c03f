package relay

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/store"
)

// takeOver makes this relay the owner of cursors that are nobody's. Raising the epoch fences off whoever had them.
// Each must still have the owner that it was seen with: a row that was changed after the statement began is looked at as it is now,
// but postrider.relays as it was then, and a relay that registered in between would seem to be dead.
func (o *owner) takeOver(ctx context.Context, free []standing) ([]store.Cursor, error) {
	var taken []store.Cursor
	names, shards, owners := make([]string, len(free)), make([]int16, len(free)), make([]*string, len(free))
	for i, s := range free {
		names[i], shards[i], owners[i] = s.part.Subscription, s.part.Shard, s.owner
	}
	err := store.WriteLocal(ctx, o.pool, func(b *pgx.Batch) {
		b.Queue(`WITH free AS (
				SELECT c.subscription, c.shard, c.class
				FROM unnest($2::text[], $3::smallint[], $4::text[]) AS seen (name, shard, owner)
				JOIN postrider.cursors c ON c.subscription = seen.name AND c.shard = seen.shard
				WHERE c.owner::text IS NOT DISTINCT FROM seen.owner AND EXISTS (SELECT FROM postrider.relays WHERE incarnation = $1)
				  AND NOT pg_is_in_recovery()
				  AND (c.owner IS NULL OR c.owner = $1 OR NOT EXISTS (SELECT FROM postrider.relays r WHERE r.incarnation = c.owner))
				ORDER BY c.subscription, c.shard, c.class FOR UPDATE OF c SKIP LOCKED)
			UPDATE postrider.cursors c SET owner = $1, epoch = epoch + 1
			FROM free, postrider.subscriptions s
			WHERE c.subscription = free.subscription AND c.shard = free.shard AND c.class = free.class AND s.name = c.subscription AND s.state = 'active'
			RETURNING `+store.CursorColumns, o.incarnation, names, shards, owners).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				raw, err := store.ScanCursor(rows.Scan)
				if err != nil {
					return err
				}
				c, err := raw.Parse()
				if err != nil {
					err = Unusable(fmt.Errorf("the cursor cannot be used: %w", err))
				} else {
					err = o.config.settle(&c.Sub, []byte(store.TextOf(raw.Settings)))
				}
				if err != nil {
					o.cannotStart(c, err)
					continue
				}
				taken = append(taken, c)
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("take cursors over: %w", err)
	}
	return taken, nil
}

// takeOverSingly finds the cursors that the server refuses to change, and pauses their subscriptions: the others go on.
func (o *owner) takeOverSingly(ctx context.Context, free []standing, refused error) (taken []store.Cursor, err error) {
	for _, s := range free {
		cursors := []store.Cursor(nil)
		if len(free) > 1 {
			cursors, refused = o.takeOver(ctx, []standing{s})
		}
		switch {
		case store.OfOneRow(refused):
			reason := "its cursor cannot be taken over: " + o.pool.Encoding().Storable(refused.Error())
			err := store.WriteLocal(ctx, o.pool, func(b *pgx.Batch) {
				b.Queue("UPDATE postrider.subscriptions SET state = 'paused', paused_reason = $3 WHERE name = $1 AND version = $2", s.name(), s.version, reason)
			})
			if err != nil {
				return taken, fmt.Errorf("pause subscription %s: %w", s.name(), err)
			}
			o.ownPauses[s.name()] = s.version + 1
			o.log.Error("subscription paused", "subscription", s.name(), "because", reason)
		case refused != nil:
			return taken, refused
		}
		taken = append(taken, cursors...)
	}
	return taken, nil
}
