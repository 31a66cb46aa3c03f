package store

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/relay/internal/relaytest"
	"github.com/postrider/postrider/relay/message"
)

func TestMain(m *testing.M) { relaytest.Main(m) }

var (
	mend       = relaytest.Must
	eventually = relaytest.Eventually
)

// bench is a database, and what the engine reads from it.
type bench struct {
	*relaytest.Database
	t *testing.T
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{relaytest.New(t, pgtest.New(t)), t}
}

func scalar[T any](b *bench, sql string, args ...any) T {
	b.t.Helper()
	return relaytest.Scalar[T](b.Database, sql, args...)
}

// incarnation is that of the relay in whose name these tests read.
const incarnation = "5f0c1d6e-0000-4000-8000-000000000001"

func (b *bench) register() {
	b.Exec("INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, '" + incarnation + "', 'test', 'test') ON CONFLICT DO NOTHING")
}

func (b *bench) subscribe(name string) {
	b.t.Helper()
	b.Exec("SELECT postrider.subscribe($1, '{>}', 'record:', start => 'earliest')", name)
}

// outboxReader is a session that answers a feed's questions.
func (b *bench) outboxReader() *OutboxReader {
	b.t.Helper()
	b.register()
	conn, err := pgx.Connect(b.t.Context(), b.DB.RoleURL(b.Role))
	mend(b.t, err)
	o := &OutboxReader{Session: NewSession(conn), Incarnation: incarnation, Decoder: message.NewDecoder("source")}
	b.t.Cleanup(o.Session.close)
	return o
}
