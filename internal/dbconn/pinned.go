package dbconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Begin starts a transaction that is none of what a role may have made the default.
const Begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE"

// explicit makes a transaction what the options leave open, whatever the session's defaults are, and pins it if need be, in the same
// request.
func explicit(o pgx.TxOptions, pooled bool) pgx.TxOptions {
	begin := fmt.Sprintf("BEGIN ISOLATION LEVEL %s %s %s", cmp.Or(o.IsoLevel, pgx.ReadCommitted), cmp.Or(o.AccessMode, pgx.ReadWrite),
		cmp.Or(o.DeferrableMode, pgx.NotDeferrable))
	if pooled {
		begin = strings.Join(append([]string{begin}, Pins...), "; ")
	}
	return pgx.TxOptions{BeginQuery: begin, CommitQuery: o.CommitQuery}
}

// pinnedBatch makes a batch one pinned transaction, if it is not one yet.
func pinnedBatch(b *pgx.Batch) *pgx.Batch {
	pinned := &pgx.Batch{}
	rest := b.QueuedQueries
	begun := len(rest) > 0 && strings.HasPrefix(rest[0].SQL, "BEGIN")
	if begun {
		pinned.QueuedQueries, rest = append(pinned.QueuedQueries, rest[0]), rest[1:]
	} else {
		pinned.Queue(Begin)
	}
	for _, sql := range Pins {
		pinned.Queue(sql)
	}
	pinned.QueuedQueries = append(pinned.QueuedQueries, rest...)
	if !begun {
		pinned.Queue("COMMIT")
	}
	return pinned
}

// sender is a connection or a pool.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// rollingBack ends a transaction that an error left open; a pool drops the connection instead.
type rollingBack struct {
	pgx.BatchResults
	conn *pgx.Conn
}

// Close reads the results that are left.
func (r rollingBack) Close() error {
	err := r.BatchResults.Close()
	if err == nil || r.conn.IsClosed() || r.conn.PgConn().TxStatus() == 'I' {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if _, rollback := r.conn.Exec(ctx, "ROLLBACK"); rollback != nil {
		return errors.Join(err, rollback)
	}
	return err
}

// pinnedQuery runs one statement in a pinned transaction of its own, in one round trip: db puts it between those
// that begin, pin and commit.
func pinnedQuery(ctx context.Context, db sender, sql string, args []any) (pgx.Rows, error) {
	b := &pgx.Batch{}
	b.Queue(sql, args...)
	results := db.SendBatch(ctx, b)
	for range 1 + len(Pins) {
		if _, err := results.Exec(); err != nil {
			return nil, errors.Join(err, results.Close())
		}
	}
	rows, err := results.Query()
	if err != nil {
		rows.Close()
		return nil, errors.Join(err, results.Close())
	}
	return &pinnedRows{Rows: rows, results: results}, nil
}

// pinnedRows ends the transaction with the last row.
type pinnedRows struct {
	pgx.Rows
	results pgx.BatchResults
	closed  bool
	err     error
}

// Close ends the transaction.
func (r *pinnedRows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.Rows.Close()
	r.err = r.results.Close()
}

// Next goes to the next row.
func (r *pinnedRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Err returns the statement's error, or else that of the commit.
func (r *pinnedRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// row is a result of one row, or the error that took its place.
type row struct {
	rows pgx.Rows
	err  error
}

func rowOf(rows pgx.Rows, err error) pgx.Row { return row{rows, err} }

// Scan reads the row.
func (r row) Scan(to ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(to...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

func tagOf(rows pgx.Rows, err error) (pgconn.CommandTag, error) {
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	for rows.Next() {
	}
	return rows.CommandTag(), rows.Err()
}
