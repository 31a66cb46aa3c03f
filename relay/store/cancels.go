package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
)

// Cancel is a request to cancel a message.
type Cancel struct {
	Name    string // of the subscription
	Message snapshot.Ident
	Reason  string
	Waiting bool // only if nobody has it
}

const cancelColumns = "subscription, id, timestamptz_send(created_at), reason, waiting"

// Cancels returns all requests of a subscription that was just taken over.
func (d *Database) Cancels(ctx context.Context, name string) (found []Cancel, err error) {
	err = read(ctx, d.Pool, func(b *pgx.Batch) {
		b.Queue("SELECT "+cancelColumns+" FROM postrider.cancels WHERE subscription = $1", name).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, toCancel)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look for what is to be cancelled: %w", err)
	}
	return found, nil
}

// NewCancels returns requests that no owner knows of yet, and removes those that are carried out. The epochs are those of the subscriptions'
// cursors.
func (d *Database) NewCancels(ctx context.Context, names []string, epochs []int64, done []Cancel, most int) (found []Cancel, err error) {
	var over deleteArrays
	for _, c := range done {
		over.names = append(over.names, c.Name)
		over.ids, over.created = append(over.ids, c.Message.ID), append(over.created, snapshot.Timestamp(c.Message.Born))
	}
	err = writeLocal(ctx, d.Pool, func(b *pgx.Batch) {
		if len(done) > 0 {
			b.Queue(`DELETE FROM postrider.cancels c USING unnest($1::text[], $2::bigint[], $3::timestamptz[]) o (subscription, id, created_at)
				WHERE c.subscription = o.subscription AND c.id = o.id AND c.created_at = o.created_at`, over.names, over.ids, over.created)
		}
		b.Queue("SELECT "+cancelColumns+" FROM postrider.new_cancels($1, $2, $3)", names, epochs, most).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, toCancel)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look for what is to be cancelled: %w", err)
	}
	return found, nil
}

func toCancel(r pgx.CollectableRow) (c Cancel, err error) {
	var created []byte
	if err = r.Scan(&c.Name, &c.Message.ID, &created, &c.Reason, &c.Waiting); err == nil {
		c.Message.Born, err = message.DecodeInt(created)
	}
	return c, err
}

// ScheduledOf returns those of the messages that are parked until they are due, of which a runner may not remember all.
func (d *Database) ScheduledOf(ctx context.Context, name string, ids []int64) ([]Parked, error) {
	rows, err := d.queryParked(ctx, `SELECT `+entryColumns+`, true FROM postrider.parked
		WHERE subscription = $1 AND id = ANY ($2) AND state = '`+states.Scheduled+`'`, name, ids)
	if err != nil {
		return nil, fmt.Errorf("look for scheduled messages that are to be cancelled: %w", err)
	}
	return rows, nil
}

// EndCancels removes requests that are carried out or came too late, as far as that shows.
func EndCancels(ctx context.Context, pool *dbconn.Pool) error {
	err := writeLocal(ctx, pool, func(b *pgx.Batch) { b.Queue("SELECT postrider.end_cancels()") })
	if err != nil {
		return fmt.Errorf("remove requests to cancel: %w", err)
	}
	return nil
}
