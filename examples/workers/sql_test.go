package workers

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// Each job's row is written once, though one worker is killed in the middle of a transaction.
func TestSQLWorkers(t *testing.T) {
	for name, example := range map[string]func(*testing.T) ([]string, []string){"python3": pythonSQL, "node": nodeSQL} {
		t.Run(name, func(t *testing.T) {
			command, env := example(t)
			db := pgtest.New(t)
			db.Exec(t, "CREATE TABLE effects (id bigint)")
			db.Exec(t, `SELECT postrider.subscribe('payments', '{payments.>}', 'sql:', '{"shards": 1, "backoff_initial": "10ms"}')`)
			conn := db.Conn(t)
			env = append(env, "DATABASE_URL="+db.URL(), "SUBSCRIPTION=payments")
			add := func(key string, orders ...order) {
				t.Helper()
				err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
					for _, o := range orders {
						if _, err := outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "payments.requested", Key: key, Payload: o}); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			p := start(t, command, env...)
			add("", order{}, order{Fail: 1}, order{})
			add("k", order{Fail: 1}, order{}) // the second one waits
			wantRows(t, conn, 5)

			add("", order{}, order{Seconds: 3600})
			await(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%INSERT INTO effects%' AND datname = current_database()", 1)
			p.kill(t)
			db.Exec(t, "UPDATE postrider.outbox SET payload = '{}' WHERE payload ? 'seconds'") // the next worker is quicker
			p = start(t, command, env...)
			wantRows(t, conn, 7)
			p.terminate(t)
		})
	}
}

// wantRows waits until that many effects are there, and wants each once, and nothing that is left.
func wantRows(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	await(t, conn, "SELECT count(*) FROM effects", n)
	await(t, conn, "SELECT count(DISTINCT id) FROM effects", n)
	await(t, conn, "SELECT count(*) FROM postrider.parked WHERE state <> 'completed'", 0)
}

// await waits until a query yields n.
func await(t *testing.T, conn *pgx.Conn, sql string, n int) {
	t.Helper()
	got := -1
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got == n {
			return
		}
	}
	t.Fatalf("%s: %d, want %d", sql, got, n)
}
