package inbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Tx is a transaction of pgx. Pools and connections are none: what is accepted by itself counts though its effect fails.
type Tx interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// SQLTx is a transaction of database/sql. The driver must take $1 as a placeholder, as those for PostgreSQL do.
type SQLTx interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	Commit() error
	Rollback() error
}

var (
	_ Tx    = pgx.Tx(nil)
	_ SQLTx = (*sql.Tx)(nil)
)

// Accept accepts a message, which its id names: the header Webhook-Id, Nats-Msg-Id or ce-id. It returns true if the message had not been
// accepted before: then its effect is to be made, in the same transaction. While another transaction that has accepted the same message is under
// way, it waits for the end of that. An id that is none of Postrider's is an error (SQLSTATE 22023).
func Accept(ctx context.Context, tx Tx, messageID string) (fresh bool, err error) {
	list, err := AcceptMany(ctx, tx, []string{messageID})
	return len(list) > 0, err
}

// AcceptMany accepts messages with one statement, and returns the ids of those that had not been accepted before, in the order in which
// they were given, each once.
func AcceptMany(ctx context.Context, tx Tx, messageIDs []string) (fresh []string, err error) {
	rows, err := tx.Query(ctx, "SELECT array_agg(a) FROM postrider_inbox.accept_many($1) a", messageIDs)
	var accepted []string
	if err == nil {
		accepted, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]string])
	}
	if err != nil {
		return nil, fmt.Errorf("accept messages: %w", err)
	}
	return inOrder(messageIDs, accepted), nil
}

// AcceptSQL is Accept for database/sql.
func AcceptSQL(ctx context.Context, tx SQLTx, messageID string) (fresh bool, err error) {
	if err := tx.QueryRowContext(ctx, "SELECT postrider_inbox.accept($1)", messageID).Scan(&fresh); err != nil {
		return false, fmt.Errorf("accept a message: %w", err)
	}
	return fresh, nil
}

// inOrder returns those of all that are accepted, each once.
func inOrder(all, accepted []string) (list []string) {
	if len(accepted) == 0 {
		return nil
	}
	left := make(map[string]bool, len(accepted))
	for _, id := range accepted {
		left[id] = true
	}
	for _, id := range all {
		if left[id] {
			delete(left, id)
			list = append(list, id)
		}
	}
	return list
}
