package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// takeOverStatement raises the epoch, which fences off whoever had the cursor. Each must still have the owner that it was seen with: a row that
// was changed after the statement began is looked at as it is now, but postrider.relays as it was then, and a relay that registered in between
// would seem to be dead. A part is taken with all its classes, or not at all.
const takeOverStatement = `WITH free AS (
		SELECT c.subscription, c.shard, c.class, c.epoch
		FROM unnest($2::text[], $3::smallint[], $4::text[]) AS seen (name, shard, owner)
		JOIN postrider.cursors c ON c.subscription = seen.name AND c.shard = seen.shard
		WHERE c.owner::text IS NOT DISTINCT FROM seen.owner AND EXISTS (SELECT FROM postrider.relays WHERE incarnation = $1)
		  AND NOT pg_is_in_recovery()
		  AND (c.owner IS NULL OR c.owner = $1 OR NOT EXISTS (SELECT FROM postrider.relays r WHERE r.incarnation = c.owner))
		ORDER BY c.subscription, c.shard, c.class FOR UPDATE OF c SKIP LOCKED),
	whole AS (
		SELECT f.subscription, f.shard, max(f.epoch) AS epoch FROM free f GROUP BY f.subscription, f.shard
		HAVING count(*) = (SELECT count(*) FROM postrider.cursors k WHERE k.subscription = f.subscription AND k.shard = f.shard))
	UPDATE postrider.cursors c SET owner = $1, epoch = whole.epoch + 1
	FROM whole, postrider.subscriptions s
	WHERE c.subscription = whole.subscription AND c.shard = whole.shard AND s.name = c.subscription AND s.state = 'active'
	RETURNING ` + cursorColumns

// TakeOver makes the relay the owner of cursors that are nobody's, and tells got of each, with an error if what it holds cannot be used.
func (d Database) TakeOver(ctx context.Context, free []Standing, got func(Cursor, error)) error {
	names, shards, owners := make([]string, len(free)), make([]int16, len(free)), make([]*string, len(free))
	for i, s := range free {
		names[i], shards[i], owners[i] = s.Part.Subscription, s.Part.Shard, s.Owner
	}
	err := writeLocal(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue(takeOverStatement, d.Incarnation, names, shards, owners).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				raw, err := scanCursor(rows.Scan)
				if err != nil {
					return err
				}
				got(raw.parse())
			}
			return rows.Err()
		})
	})
	if err != nil {
		return fmt.Errorf("take cursors over: %w", err)
	}
	return nil
}

// ArrangeClasses gives a subscription, which the relay owns, the cursors that its setting priorities asks for. False: it has them, or its classes
// have not come to one snapshot yet.
func (d Database) ArrangeClasses(ctx context.Context, name string) (changed bool, err error) {
	err = writeLocal(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue("SELECT postrider.arrange_classes($1, $2)", name, d.Incarnation).
			QueryRow(func(row pgx.Row) error { return row.Scan(&changed) })
	})
	if err != nil {
		return false, fmt.Errorf("arrange the classes of subscription %s: %w", name, err)
	}
	return changed, nil
}
