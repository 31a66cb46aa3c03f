package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Tx is a transaction of pgx: a pgx.Tx, as Begin of a pool or a connection returns it, or what Begun makes of a connection. Pools
// and connections are none: a message that is not in the transaction of what it tells about would be sent though that is rolled back.
type Tx interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// SQLTx is a transaction of database/sql: a *sql.Tx, or what BegunSQL makes of a connection. The driver must take $1 as a
// placeholder, as those for PostgreSQL do.
type SQLTx interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	Commit() error
	Rollback() error
}

var (
	_ Tx    = pgx.Tx(nil)
	_ Tx    = begun{}
	_ SQLTx = (*sql.Tx)(nil)
	_ SQLTx = begunSQL{}
)

// Begun is the transaction that is open on conn because BEGIN was sent on it by hand. Where none is open, each of its methods,
// and so Enqueue, returns an error and sends nothing.
func Begun(conn *pgx.Conn) Tx { return begun{conn} }

type begun struct{ conn *pgx.Conn }

// open refuses a connection that PostgreSQL said is idle with its last answer. A transaction that failed is left to PostgreSQL to refuse.
func (b begun) open() error {
	if !b.conn.IsClosed() && b.conn.PgConn().TxStatus() == 'I' {
		return errors.New("no transaction is open on the connection: send BEGIN first, or use the Tx of its method Begin")
	}
	return nil
}

func (b begun) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := b.open(); err != nil {
		return nil, err
	}
	return b.conn.Query(ctx, sql, args...)
}

func (b begun) Commit(ctx context.Context) error {
	if err := b.open(); err != nil {
		return err
	}
	tag, err := b.conn.Exec(ctx, "COMMIT")
	if err == nil && tag.String() == "ROLLBACK" { // so PostgreSQL ends a transaction that failed
		return pgx.ErrTxCommitRollback
	}
	return err
}

func (b begun) Rollback(ctx context.Context) error {
	if err := b.open(); err != nil {
		return err
	}
	_, err := b.conn.Exec(ctx, "ROLLBACK")
	return err
}

// BegunSQL is the transaction that is open on conn because BEGIN was sent on it by hand. Where none is open, Enqueue returns an error
// and inserts nothing. database/sql does not know about such a transaction, so each statement asks PostgreSQL first, with a
// savepoint: two round trips more. A *sql.Tx costs none.
func BegunSQL(conn *sql.Conn) SQLTx { return begunSQL{conn} }

type begunSQL struct{ conn *sql.Conn }

func (b begunSQL) open(ctx context.Context) error {
	for _, statement := range []string{"SAVEPOINT postrider_begun", "RELEASE SAVEPOINT postrider_begun"} {
		if _, err := b.conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("no usable transaction is open on the connection: send BEGIN first, or use the Tx of its method BeginTx: %w", err)
		}
	}
	return nil
}

func (b begunSQL) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	return b.conn.QueryContext(ctx, query, args...)
}

func (b begunSQL) Commit() error {
	ctx := context.Background()
	if err := b.open(ctx); err != nil {
		return err
	}
	_, err := b.conn.ExecContext(ctx, "COMMIT")
	return err
}

func (b begunSQL) Rollback() error {
	_, err := b.conn.ExecContext(context.Background(), "ROLLBACK")
	return err
}
