package inbox

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	//go:embed schema.sql
	tables string
	//go:embed accept.sql
	accepting string // what has changed since version 1
	//go:embed rest.sql
	rest string
)

// Schema is the SQL that makes the schema postrider_inbox, to be run once, in one transaction.
var Schema = tables + "\n" + accepting + "\n" + rest

// Version is that of the schema which this package makes and knows.
const Version = 3

// upgrade makes this version of an earlier one, which works on meanwhile.
var upgrade = accepting + "UPDATE postrider_inbox.version SET version = 3"

// DB begins transactions: a *pgx.Conn or a *pgxpool.Pool.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Install makes the schema postrider_inbox, or brings an older one to this version. It takes the right to make schemas. Several may do it at once.
func Install(ctx context.Context, db DB) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog, pg_temp; SELECT pg_advisory_xact_lock(1886352500, 16)"); err != nil {
			return fmt.Errorf("install the inbox: %w", err)
		}
		version, err := installed(ctx, tx)
		switch {
		case err != nil:
			return fmt.Errorf("install the inbox: %w", err)
		case version > Version:
			return fmt.Errorf("install the inbox: the schema postrider_inbox is of version %d, this build knows %d: take a newer one", version, Version)
		case version == Version:
			return nil
		}
		sql := Schema
		if version > 0 {
			sql = upgrade
		}
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("install the inbox: %w", err)
		}
		return nil
	})
}

// installed returns the version of the schema, 0 if there is none.
func installed(ctx context.Context, tx pgx.Tx) (version int, err error) {
	var there bool
	if err := tx.QueryRow(ctx, "SELECT to_regclass('postrider_inbox.version') IS NOT NULL").Scan(&there); err != nil || !there {
		return 0, err
	}
	err = tx.QueryRow(ctx, "SELECT version FROM postrider_inbox.version").Scan(&version)
	return version, err
}

// Keep sets how long messages are remembered, from 1 hour to 10 years; it is 14 days at first. It returns from when on that holds: of messages
// that are made later, once the inbox is in use.
func Keep(ctx context.Context, db DB, howLong time.Duration) (from time.Time, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT postrider_inbox.keep(make_interval(secs => $1))", howLong.Seconds()).Scan(&from)
	})
	if err != nil {
		return from, fmt.Errorf("set how long the inbox remembers: %w", err)
	}
	return from, nil
}

// Grants is the SQL that lets a role accept messages, and nothing else. Run it as the schema's owner.
func Grants(role string) string {
	name := pgx.Identifier{role}.Sanitize()
	return fmt.Sprintf(`GRANT USAGE ON SCHEMA postrider_inbox TO %[1]s;
GRANT EXECUTE ON FUNCTION postrider_inbox.accept(text), postrider_inbox.accept(text, timestamptz), postrider_inbox.accept_many(text[]),
    postrider_inbox.accept_at(text[], bigint[]), postrider_inbox.made_at(text), postrider_inbox.keeps() TO %[1]s;
`, name)
}
