package dbconn

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Conn is a connection whose statements and transactions are pinned.
type Conn struct{ *pgx.Conn }

// Connect opens a connection with a configuration of [ParseConfig].
func Connect(ctx context.Context, config *pgx.ConnConfig) (*Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &Conn{conn}, nil
}

// Replication opens a connection that logical replication and plain SQL can be asked of. Behind a pooler too it is this client's
// alone. Parameters that concern pgx or its pools only are not passed on to the server. notice receives the server's notices.
func Replication(ctx context.Context, databaseURL, name string, notice pgconn.NoticeHandler) (*pgconn.PgConn, error) {
	config, err := ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	setParam(c.RuntimeParams, "replication", "database")
	setParam(c.RuntimeParams, "application_name", name)
	c.OnNotice = notice
	conn, err := pgconn.ConnectConfig(ctx, &c.Config)
	if err != nil {
		return nil, err
	}
	if Pooled(conn) {
		if _, err := ask(ctx, conn, unlimited, setPins(false, "true")); err != nil {
			conn.Close(ctx)
			return nil, err
		}
	}
	return conn, nil
}

// Pooled says whether a pooler gives the connection out.
func (c *Conn) Pooled() bool { return Pooled(c.PgConn()) }

// Encoding is the database's.
func (c *Conn) Encoding() Encoding { return EncodingOf(c.PgConn()) }

// unpinned says whether what comes next has to be pinned. A transaction that is under way is, and must not end with one of its statements.
func (c *Conn) unpinned() bool { return c.Pooled() && c.PgConn().TxStatus() == 'I' }

// Query sends a query.
func (c *Conn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if !c.unpinned() {
		return c.Conn.Query(ctx, sql, args...)
	}
	return pinnedQuery(ctx, c, sql, args)
}

// QueryRow sends a query of one row; Scan returns its error.
func (c *Conn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if !c.unpinned() {
		return c.Conn.QueryRow(ctx, sql, args...)
	}
	return rowOf(pinnedQuery(ctx, c, sql, args))
}

// Exec runs a statement.
func (c *Conn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if !c.unpinned() {
		return c.Conn.Exec(ctx, sql, args...)
	}
	return tagOf(pinnedQuery(ctx, c, sql, args))
}

// Begin starts a transaction.
func (c *Conn) Begin(ctx context.Context) (pgx.Tx, error) { return c.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx starts a transaction.
func (c *Conn) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	return c.Conn.BeginTx(ctx, explicit(options, c.Pooled()))
}

// SendBatch runs statements in one transaction and one round trip. Their results come to the functions that are queued with them;
// of what is returned only Close is of use.
func (c *Conn) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if !c.unpinned() {
		return c.Conn.SendBatch(ctx, b)
	}
	return rollingBack{c.Conn.SendBatch(ctx, pinnedBatch(b)), c.Conn}
}
