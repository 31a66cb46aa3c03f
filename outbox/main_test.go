package outbox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// newDB returns a database and a connection as a role that may enqueue and nothing else.
func newDB(t *testing.T) (db *pgtest.DB, appURL string) {
	t.Helper()
	db = pgtest.New(t)
	role := db.Role(t, "app", "")
	for _, sql := range []string{migrations.AppGrants(role)} {
		db.Exec(t, sql)
	}
	return db, db.RoleURL(role)
}

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

func begin(t *testing.T, conn *pgx.Conn) pgx.Tx {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// stored is a message as the table holds it.
type stored struct {
	ID                                               int64
	Topic, Key, Payload, Body, Headers, DeliverAtUTC string
	Priority                                         int
}

// messages returns what the table holds, by id; NULL is shown as "-".
func messages(t *testing.T, db *pgtest.DB) []stored {
	t.Helper()
	rows, err := db.Conn(t).Query(t.Context(), `SELECT id, topic, coalesce(key, '-'), coalesce(payload::text, '-'),
		coalesce(encode(body, 'hex'), '-'), coalesce(headers::text, '-'),
		coalesce(to_char(deliver_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '-'), priority
		FROM postrider.outbox ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// exampleTB lets the examples, which have no testing.T, have a database. It goes with the cluster.
type exampleTB struct{ testing.TB }

func (exampleTB) Helper()                           {}
func (exampleTB) Name() string                      { return "example" }
func (exampleTB) Context() context.Context          { return context.Background() }
func (exampleTB) Cleanup(func())                    {}
func (exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (exampleTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }

// newDatabase returns the URL of a database with an empty outbox and a table of orders.
func newDatabase() string {
	db := pgtest.New(exampleTB{})
	db.Exec(exampleTB{}, `CREATE TABLE orders (id bigint PRIMARY KEY, total numeric)`)
	return db.URL()
}
