package dbconn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Place is what stands between a client and its server.
type Place int

// The places. What a session has (prepared statements, LISTEN, settings) outlives a transaction in the first two only.
const (
	Direct            Place = iota // nothing
	SessionPooler                  // a pooler or proxy that gives each client a server connection of its own
	TransactionPooler              // one that gives a server connection out for each transaction
	looks             = 12         // how often two clients compare what they got
)

// String names the place.
func (p Place) String() string {
	return [...]string{"no pooler", "a pooler in session mode", "a pooler in transaction mode"}[p]
}

// errStatements says that a pooler gives server connections out for single statements.
var errStatements = errors.New("a pooler in statement mode sits between this and PostgreSQL, through which no transaction passes: " +
	"set pool_mode = transaction (or session) for this database in the pooler, or connect to PostgreSQL itself")

// Hopeless says whether the error of a connection is one that trying again cannot fix, and that no server sent.
func Hopeless(err error) bool { return errors.Is(err, errStatements) }

// PlaceOf finds out where the connection leads to. A second one is opened for that if there is a pooler: in transaction mode two
// clients that are connected at the same time can end up with one server connection, or one client with two. A busy pooler in
// transaction mode may hide that, so that one in session mode is only likely.
func PlaceOf(ctx context.Context, conn *Conn, config *pgx.ConnConfig) (Place, error) {
	if !conn.Pooled() {
		return Direct, nil
	}
	second, err := Connect(ctx, config)
	if err != nil {
		return 0, err
	}
	defer second.Close(ctx)
	backend := func(c *Conn) (string, error) {
		row, err := ask(ctx, c.PgConn(), "SELECT pg_catalog.pg_backend_pid()")
		if err != nil {
			return "", fmt.Errorf("find out whether a pooler is in between: %w", err)
		}
		return string(row[0]), nil
	}
	own, err := backend(conn)
	if err != nil {
		return 0, err
	}
	for i := range looks {
		asked, other := conn, i%3 == 0 // not in turns: a pooler that goes round among two servers would hide that
		if other {
			asked = second
		}
		got, err := backend(asked)
		if err != nil {
			return 0, err
		}
		if (got == own) == other {
			return TransactionPooler, nil
		}
	}
	return SessionPooler, nil
}

// checkTransactions makes sure that a pooler keeps a transaction together.
func checkTransactions(ctx context.Context, conn *pgconn.PgConn) error {
	_, err := ask(ctx, conn, "BEGIN")
	switch {
	case refusesTransactions(err), err == nil && conn.TxStatus() != 'T':
		return errStatements
	case err != nil:
		return err
	}
	_, err = ask(ctx, conn, "ROLLBACK")
	return err
}

// refusesTransactions says whether it is the error of PgBouncer in statement mode. All its errors have this code, also that it has lost its server.
func refusesTransactions(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "08P01" && strings.Contains(pgErr.Message, "statement pooling mode")
}
