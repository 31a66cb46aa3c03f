package migrations

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

// connect opens a connection as role, closed when the test ends.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// one returns the single value that sql yields.
func one[T any](t *testing.T, q querier, sql string, args ...any) T {
	t.Helper()
	rows, err := q.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func exec(t *testing.T, q querier, sql string, args ...any) {
	t.Helper()
	if _, err := q.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// refused expects an error that holds want; a transaction of q survives it.
func refused(t *testing.T, q querier, want, sql string, args ...any) {
	t.Helper()
	tx, err := q.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), sql, args...)
	text := ""
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		text = pgErr.Code + " " + pgErr.Message
	}
	if !strings.Contains(text, want) {
		t.Errorf("%s: got error %q, want %q", sql, text, want)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, q querier) pgx.Tx {
	t.Helper()
	tx, err := q.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// enqueue returns the id of a new message.
func enqueue(t *testing.T, q querier, topic string) int64 {
	t.Helper()
	return one[int64](t, q, `SELECT postrider.enqueue($1, '{}')`, topic)
}

func subscribe(t *testing.T, q querier, name, start string, topics ...string) {
	t.Helper()
	exec(t, q, `SELECT postrider.subscribe($1, $2, 'stdout:', start => $3)`, name, topics, start)
}

// statuses returns what the view says of a subscription's messages.
func statuses(t *testing.T, q querier, name string) map[int64]string {
	t.Helper()
	rows, err := q.Query(t.Context(), `SELECT id, status FROM postrider.deliveries WHERE subscription = $1`, name)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int64]string{}
	var (
		id     int64
		status string
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &status}, func() error {
		if before, ok := got[id]; ok {
			t.Errorf("%s: message %d is listed twice, as %s and %s", name, id, before, status)
		}
		got[id] = status
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// pinned opens a connection as the product does.
func pinned(t *testing.T, url string) *dbconn.Conn {
	t.Helper()
	config, err := dbconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dbconn.Connect(t.Context(), config.ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// pgVersion is the server's major version.
func pgVersion(t *testing.T) int {
	t.Helper()
	return one[int](t, pgtest.Empty(t).Conn(t), `SELECT current_setting('server_version_num')::int / 10000`)
}
