package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/migrations"
)

// Connect opens one connection. Statements are not prepared: a command runs a handful of them, and behind a pooler in
// transaction mode prepared ones may be gone at the next.
func Connect(ctx context.Context, databaseURL string) (*dbconn.Conn, error) {
	config, err := ConnConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	return dbconn.Connect(ctx, config)
}

// ConnConfig is the configuration of such a connection.
func ConnConfig(databaseURL string) (*pgx.ConnConfig, error) {
	config, err := dbconn.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	dbconn.Unprepared(config.ConnConfig)
	return config.ConnConfig, nil
}

// ReadOnly runs f in a transaction that sees one state of the database.
func ReadOnly(ctx context.Context, db *dbconn.Conn, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

// Close closes a connection, and does not wait long for the server.
func Close(db *dbconn.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = db.Close(ctx) // nothing is under way on it
}

// CheckSchema says what to do about a schema that is not this build's.
func CheckSchema(ctx context.Context, db *dbconn.Conn) error {
	version, err := migrations.Current(ctx, db)
	switch {
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("database %q holds no Postrider schema: run `postrider migrate`", db.Config().Database)
	case version < migrations.Version:
		return fmt.Errorf("the schema in database %q has version %d, this build needs %d: run `postrider migrate`", db.Config().Database, version, migrations.Version)
	}
	return nil
}

// Explain adds to a database's error what mends it, where that is known. It turns err into the text for a person.
func Explain(err error) string {
	text := err.Error()
	if dberr.Connecting(err) {
		text = dberr.Cause(err)
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return text
	}
	if dbconn.Hides(err) {
		return text + "\n" + dbconn.HidesRemedy
	}
	switch pgErr.Code {
	case "42501": // insufficient_privilege
		text += "\n`postrider grants --relay ROLE` (for applications --app ROLE) prints the SQL that grants what is needed"
	case "3F000", "42P01", "42883": // no such schema, table, function
		if strings.Contains(pgErr.Message, "postrider") {
			text += "\nthe database holds no Postrider schema, or an older one: run `postrider migrate`"
		}
	}
	if pgErr.Hint != "" {
		text += "\nhint: " + pgErr.Hint
	}
	return text
}

// NoSubscription is the error for a name that nobody has, with the nearest that somebody has.
func NoSubscription(ctx context.Context, db Querier, name string) error {
	rows, err := db.Query(ctx, "SELECT name FROM postrider.subscriptions ORDER BY name")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	text := fmt.Sprintf("there is no subscription %q", name)
	if near := strict.Nearest(name, names); near != "" {
		return fmt.Errorf("%s; did you mean %q?", text, near)
	}
	if len(names) == 0 {
		return errors.New(text + ": there are none at all")
	}
	return errors.New(text + ": `postrider subs list` lists them")
}

// Querier is a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// SameIdentity reports whether the stored transaction ids are of this cluster and database.
func SameIdentity(ctx context.Context, db Querier) (same bool, err error) {
	err = db.QueryRow(ctx, `
		SELECT system_identifier = (SELECT system_identifier FROM pg_control_system())
		   AND database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())
		FROM postrider.source`).Scan(&same)
	return same, err
}
