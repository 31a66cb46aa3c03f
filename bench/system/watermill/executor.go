package watermill

import (
	"context"
	stdsql "database/sql"
	"database/sql/driver"
	"errors"

	"github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/jackc/pgx/v5"
)

// executor is the producer's transaction as a publisher wants it; a publisher executes and never queries.
type executor struct {
	ctx context.Context // a publisher has none to give
	tx  pgx.Tx
}

var (
	_          sql.ContextExecutor = executor{}
	errNoQuery                     = errors.New("a publisher's transaction takes no queries")
)

func (e executor) ExecContext(_ context.Context, query string, args ...any) (stdsql.Result, error) {
	tag, err := e.tx.Exec(e.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

func (e executor) Exec(query string, args ...any) (stdsql.Result, error) {
	return e.ExecContext(e.ctx, query, args...)
}

func (executor) QueryContext(context.Context, string, ...any) (*stdsql.Rows, error) {
	return nil, errNoQuery
}

func (executor) Query(string, ...any) (*stdsql.Rows, error) { return nil, errNoQuery }

func (executor) QueryRowContext(context.Context, string, ...any) *stdsql.Row { panic(errNoQuery) }

func (executor) QueryRow(string, ...any) *stdsql.Row { panic(errNoQuery) }
