package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/migrations"
)

// rebasePatience is how long a rebase waits for transactions that have written to the outbox: applications wait behind it.
const rebasePatience = 10 * time.Second

// Rebase makes an outbox that came from another database or cluster belong to this one, and returns how many messages it holds. With newID
// messages get new ids on the wire.
func Rebase(ctx context.Context, db *dbconn.Conn, newID bool) (retained int64, err error) {
	err = pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", rebasePatience.Milliseconds())); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT postrider.rebase($1)", newID).Scan(&retained)
	})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "55P03" { // lock_not_available
		holders, holdersErr := migrations.Holders(ctx, db)
		return 0, errors.Join(errorf(Unavailable, "the outbox could not be locked within %s, nothing is changed: it is in use by %s", rebasePatience, holders), holdersErr)
	}
	return retained, err
}

// SameIdentity reports whether the stored transaction ids are of this cluster and database.
func SameIdentity(ctx context.Context, db Querier) (same bool, err error) {
	err = db.QueryRow(ctx, `
		SELECT system_identifier = (SELECT system_identifier FROM pg_control_system())
		   AND database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())
		FROM postrider.source`).Scan(&same)
	return same, err
}
