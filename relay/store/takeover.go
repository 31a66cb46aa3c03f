package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// takeOverStatement raises the epoch, which fences off whoever had the cursor. Each must still have the owner that it was seen with: a row that
// was changed after the statement began is looked at as it is now, but postrider.relays as it was then, and a relay that registered in between
// would seem to be dead.
const takeOverStatement = `WITH free AS (
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
	RETURNING ` + cursorColumns

// TakeOver makes the relay the owner of cursors that are nobody's, and tells got of each, with an error if what it holds cannot be used.
func (d Database) TakeOver(ctx context.Context, free []Standing, got func(Cursor, error)) error {
	names, shards, owners := make([]string, len(free)), make([]int16, len(free)), make([]*string, len(free))
	for i, s := range free {
		names[i], shards[i], owners[i] = s.Part.Subscription, s.Part.Shard, s.Owner
	}
	err := WriteLocal(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue(takeOverStatement, d.Incarnation, names, shards, owners).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				raw, err := scanCursor(rows.Scan)
				if err != nil {
					return err
				}
				got(raw.Parse())
			}
			return rows.Err()
		})
	})
	if err != nil {
		return fmt.Errorf("take cursors over: %w", err)
	}
	return nil
}
