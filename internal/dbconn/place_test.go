package dbconn

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/pgtest"
)

// A pooler in statement mode is told from one that has lost its server, whose errors have the same code.
func TestPoolersThatHaveLostTheirServer(t *testing.T) {
	server := pgtest.Servers(t, pgtest.Options{})
	for _, mode := range []string{"statement", "transaction"} {
		hopeless := mode == "statement"
		b := pgtest.Bouncers(t, server, pgtest.BouncerOptions{PoolMode: mode, User: "postgres", Settings: map[string]string{"query_wait_timeout": "1"}})
		conn, err := pgconn.Connect(t.Context(), strings.Replace(b.URL("postgres"), "&default_query_exec_mode=exec", "", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(t.Context()) })
		if mode == "transaction" {
			if err := checkTransactions(t.Context(), conn); err != nil {
				t.Fatalf("while all is well: %v", err)
			}
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		err = checkTransactions(t.Context(), conn)
		if err == nil || Hopeless(err) != hopeless {
			t.Errorf("a pooler in %s mode: %v, hopeless: %t, want %t", mode, err, Hopeless(err), hopeless)
		}
	}
}
