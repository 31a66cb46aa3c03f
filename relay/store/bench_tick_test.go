package store

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// One tick that reads nothing else: the part of a live message's latency that is the server's and the connection's.
func BenchmarkTick(b *testing.B) {
	conn, err := pgx.Connect(b.Context(), pgtest.New(b).URL())
	if err != nil {
		b.Fatal(err)
	}
	s, incarnation := NewSession(conn), uuid.NewString()
	b.Cleanup(s.close)
	if _, err := conn.Exec(b.Context(), "INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, $1, 'bench', '')", incarnation); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.tick(b.Context(), incarnation); err != nil {
			b.Fatal(err)
		}
	}
}
