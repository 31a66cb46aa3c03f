package doctor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/human"
)

// checkTransactions finds open transactions that have written: their own messages wait for them, and the stream's WAL too.
func (d *examination) checkTransactions(ctx context.Context) error {
	var sees bool
	if err := d.db.QueryRow(ctx, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')").Scan(&sees); err != nil {
		return err
	}
	if !sees {
		d.report("transactions", StatusNote, "this role may not see the sessions of others, so old open transactions cannot be found",
			fmt.Sprintf("GRANT pg_read_all_stats TO %s;", quoteName(d.role)))
		return nil
	}
	rows, err := d.db.Query(ctx, `
		SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)::float8
		FROM pg_stat_activity
		WHERE datname = current_database() AND backend_xid IS NOT NULL AND xact_start < clock_timestamp() - $1::bigint * interval '1 second' ORDER BY xact_start`,
		int64(d.OldTransaction.Seconds()))
	if err != nil {
		return err
	}
	var pid int
	var role, application string
	var age float64
	n := len(d.findings)
	_, err = pgx.ForEachRow(rows, []any{&pid, &role, &application, &age}, func() error {
		d.report("transactions", StatusWarn, fmt.Sprintf("process %d (role %q, application %q) has had a transaction open for %s: it holds back WAL, and the segments it wrote to",
			pid, role, application, human.Duration(human.Seconds(age))), fmt.Sprintf("SELECT pg_terminate_backend(%d);", pid))
		return nil
	})
	if err == nil && len(d.findings) == n {
		d.report("transactions", StatusOK, "no writing transaction is older than "+human.Duration(d.OldTransaction))
	}
	return err
}

// checkPrepared finds transactions that were prepared for a two-phase commit and forgotten.
func (d *examination) checkPrepared(ctx context.Context) error {
	rows, err := d.db.Query(ctx, `
		SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
		WHERE database = current_database() AND prepared < clock_timestamp() - $1::bigint * interval '1 second' ORDER BY prepared`,
		int64(d.OldTransaction.Seconds()))
	if err != nil {
		return err
	}
	var gid string
	var age float64
	_, err = pgx.ForEachRow(rows, []any{&gid, &age}, func() error {
		d.report("prepared", StatusWarn, fmt.Sprintf("the transaction %q was prepared %s ago and never ended: it holds back WAL and vacuum", gid, human.Duration(human.Seconds(age))),
			fmt.Sprintf("COMMIT PREPARED %s;  -- or ROLLBACK PREPARED", quoteText(gid)))
		return nil
	})
	return err
}
