package relay

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/relay/store"
)

// One tick that reads nothing else: the part of a live message's latency that is the server's and the connection's.
func BenchmarkTick(b *testing.B) {
	conn, err := pgx.Connect(b.Context(), pgtest.New(b).URL())
	if err != nil {
		b.Fatal(err)
	}
	s, incarnation := store.NewSession(conn), uuid.NewString()
	b.Cleanup(s.Close)
	if _, err := conn.Exec(b.Context(), "INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, $1, 'bench', '')", incarnation); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Look(b.Context(), incarnation); err != nil {
			b.Fatal(err)
		}
	}
}
