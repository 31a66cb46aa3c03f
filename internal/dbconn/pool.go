package dbconn

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool is a pool of connections whose statements and transactions are pinned.
type Pool struct {
	*pgxpool.Pool
	// Of the first connection; a pool leads to one place.
	seen atomic.Pointer[surroundings]
}

// surroundings is what a connection tells of where it leads to.
type surroundings struct {
	pooled   bool
	encoding Encoding
}

// NewPool makes a pool with a configuration of [ParseConfig]. Nothing is connected yet.
func NewPool(ctx context.Context, config *pgxpool.Config) (*Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &Pool{Pool: pool}, nil
}

// look opens a connection, unless one has been, to see where it leads to.
func (p *Pool) look(ctx context.Context) (*surroundings, error) {
	if seen := p.seen.Load(); seen != nil {
		return seen, nil
	}
	conn, err := p.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	seen := &surroundings{Pooled(conn.Conn().PgConn()), EncodingOf(conn.Conn().PgConn())}
	p.seen.Store(seen)
	return seen, nil
}

// With lends a connection to f.
func (p *Pool) With(ctx context.Context, f func(*Conn) error) error {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return f(&Conn{conn.Conn()})
}

// Pooled says whether a pooler gives the connections out. It connects if need be.
func (p *Pool) Pooled(ctx context.Context) (bool, error) {
	seen, err := p.look(ctx)
	if err != nil {
		return false, err
	}
	return seen.pooled, nil
}

// Encoding is the database's, once there has been a connection.
func (p *Pool) Encoding() Encoding {
	if p == nil {
		return ""
	}
	if seen := p.seen.Load(); seen != nil {
		return seen.encoding
	}
	return ""
}

// Storable is [Encoding.Storable] for the pool's database. It connects if need be: an error means that it cannot.
func (p *Pool) Storable(ctx context.Context, text string) (string, error) {
	seen, err := p.look(ctx)
	if err != nil {
		return "", err
	}
	return seen.encoding.Storable(text), nil
}

// JSON is Encoding.JSON for the pool's database.
func (p *Pool) JSON(ctx context.Context, text []byte) (string, error) {
	seen, err := p.look(ctx)
	if err != nil {
		return "", err
	}
	return seen.encoding.JSON(text), nil
}

// Query sends a query.
func (p *Pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	seen, err := p.look(ctx)
	switch {
	case err != nil:
		return nil, err
	case seen.pooled:
		return pinnedQuery(ctx, p, sql, args)
	}
	return p.Pool.Query(ctx, sql, args...)
}

// QueryRow sends a query of one row; Scan returns its error.
func (p *Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return rowOf(p.Query(ctx, sql, args...))
}

// Exec runs a statement.
func (p *Pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return tagOf(p.Query(ctx, sql, args...))
}

// Begin starts a transaction.
func (p *Pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx starts a transaction.
func (p *Pool) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	seen, err := p.look(ctx)
	if err != nil {
		return nil, err
	}
	return p.Pool.BeginTx(ctx, explicit(options, seen.pooled))
}

// SendBatch runs statements in one transaction and one round trip. Their results come to the functions that are queued with them;
// of what is returned only Close is of use.
func (p *Pool) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if seen, err := p.look(ctx); err == nil && seen.pooled {
		b = pinnedBatch(b)
	}
	return p.Pool.SendBatch(ctx, b)
}
