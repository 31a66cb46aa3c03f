package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/postrider/postrider/internal/dbconn"
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

// NewPool makes a pool of at most so many such connections. A statement whose context ends is cancelled at the server, too: nobody waits for it
// any more. Nothing is connected yet.
func NewPool(ctx context.Context, databaseURL string, most int32) (*dbconn.Pool, error) {
	config, err := dbconn.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	dbconn.Unprepared(config.ConnConfig)
	config.MaxConns, config.MinConns, config.MaxConnIdleTime = most, 0, time.Minute
	config.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 2 * time.Second}
	}
	return dbconn.NewPool(ctx, config)
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
		return errorf(Conflict, "database %q holds no Postrider schema: run `postrider migrate`", db.Config().Database)
	case version < migrations.Version:
		return errorf(Conflict, "the schema in database %q has version %d, this build needs %d: run `postrider migrate`", db.Config().Database, version, migrations.Version)
	}
	return nil
}

// noSubscription is the error for a name that nobody has, with the nearest that somebody has.
func noSubscription(ctx context.Context, db Querier, name string) error {
	rows, err := db.Query(ctx, "SELECT name FROM postrider.subscriptions ORDER BY name")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	text := fmt.Sprintf("there is no subscription %q", name)
	switch near := strict.Nearest(name, names); {
	case near != "":
		return errorf(NotFound, "%s; did you mean %q?", text, near)
	case len(names) == 0:
		return errorf(NotFound, "%s: there are none at all", text)
	}
	return errorf(NotFound, "%s: `postrider subs list` lists them", text)
}

// Querier is a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
