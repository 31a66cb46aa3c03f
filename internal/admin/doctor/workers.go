package doctor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/human"
)

// checkWorkers names who has held a shard of a subscription for long: a worker that takes messages in SQL keeps it until it commits.
func (d *examination) checkWorkers(ctx context.Context) error {
	rows, err := d.db.Query(ctx, `
		SELECT subscription, shard, pid, gid, holder, extract(epoch FROM clock_timestamp() - since)::float8 FROM postrider.shard_holders()
		WHERE gid IS NOT NULL OR since < clock_timestamp() - $1::bigint * interval '1 second'`, int64(d.OldTransaction.Seconds()))
	if err != nil {
		return err
	}
	var subscription, holder string
	var shard int
	var pid *int
	var gid *string
	var age *float64
	_, err = pgx.ForEachRow(rows, []any{&subscription, &shard, &pid, &gid, &holder, &age}, func() error {
		what := fmt.Sprintf("shard %d of %q is held by %s", shard, subscription, holder)
		if age != nil {
			what += ", for " + human.Duration(human.Seconds(*age))
		}
		remedy := ""
		switch {
		case gid != nil:
			remedy = fmt.Sprintf("COMMIT PREPARED %s;  -- or ROLLBACK PREPARED", quoteText(*gid))
		case pid != nil:
			remedy = fmt.Sprintf("SELECT pg_terminate_backend(%d);", *pid)
		}
		d.report("workers", StatusWarn, what+": nobody else works on its keys", remedy)
		return nil
	})
	return err
}
