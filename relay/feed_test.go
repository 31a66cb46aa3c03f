package relay

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/sinks"
)

// TestVisibleBeforeDelivered has every receiver look for the order that its message is about, through another connection.
func TestVisibleBeforeDelivered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec("CREATE TABLE orders (id bigint PRIMARY KEY)")
	b.Exec(fmt.Sprintf("GRANT INSERT ON orders TO %q", b.App.Config().ConnConfig.User))
	all := b.subscribe("all", "{>}", "{}", "now")
	var unseen atomic.Int64
	all.answer(func(d sinks.Delivery) error {
		var there bool
		err := b.Admin.QueryRow(context.Background(), "SELECT EXISTS (SELECT FROM orders WHERE id = $1::text::bigint)", string(d.Payload)).Scan(&there)
		if err != nil {
			t.Error(err)
		}
		if !there {
			unseen.Add(1)
		}
		return nil
	})
	_, g := b.startWatched(func(c *Config) { c.Follow = FollowStream })
	g.follows(1)
	const writers, orders = 4, 150
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			for n := range orders {
				id := w*orders + n
				err := pgx.BeginFunc(t.Context(), b.App, func(tx pgx.Tx) error {
					if _, err := tx.Exec(t.Context(), "SELECT postrider.enqueue('order', to_jsonb($1::bigint))", id); err != nil {
						return err
					}
					_, err := tx.Exec(t.Context(), "INSERT INTO orders VALUES ($1)", id)
					return err
				})
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	b.settled(all)
	if n := unseen.Load(); n > 0 {
		t.Errorf("%d of %d messages were delivered before their order was visible", n, all.count())
	}
	if g.ticks("stream") == 0 {
		t.Error("the stream carried nothing")
	}
	b.audit(all, 0)
}

// TestTransactions shares a private cluster: what is open here would hold up slots elsewhere.
func TestTransactions(t *testing.T) {
	t.Parallel()
	server := privateServer(t, nil)
	for _, follow := range []Follow{FollowStream, FollowTimer} {
		t.Run("only what committed/"+string(follow), func(t *testing.T) { onlyCommitted(t, server, follow) })
		t.Run("stuck standby/"+string(follow), func(t *testing.T) { stuckStandby(t, server, follow) })
	}
	t.Run("old transaction at the start", func(t *testing.T) { oldTransactionAtStart(t, server) })
}

// startAt starts a relay and waits until it delivers in the way that the test is about.
func (b *bench) startAt(follow Follow) (*running, *gauges) {
	b.t.Helper()
	r, g := b.startWatched(func(c *Config) { c.Follow = follow })
	if follow == FollowStream {
		g.follows(1)
	} else {
		eventually(b.t, "the table is read", func() bool { return g.ticks("table") > 0 })
	}
	return r, g
}

// script runs statements on a connection.
func script(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// enqueueNow is an SQL statement that publishes a number.
func enqueueNow(n int) string {
	return fmt.Sprintf("SELECT postrider.enqueue('t', '%d', 'key')", n)
}

func onlyCommitted(t *testing.T, server *pgtest.Server, follow Follow) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	b.startAt(follow)
	old, conn := b.DB.Conn(t), b.DB.Conn(t)
	script(t, old, "BEGIN", enqueueNow(1)) // open for the whole test
	script(t, conn, "BEGIN", enqueueNow(2), "ROLLBACK")
	script(t, conn, "BEGIN", enqueueNow(3), "SAVEPOINT a", enqueueNow(4), "ROLLBACK TO a", enqueueNow(5), "SAVEPOINT b", enqueueNow(6), "RELEASE b", "COMMIT")
	script(t, conn, "BEGIN", enqueueNow(7), "PREPARE TRANSACTION 'kept'", "BEGIN", enqueueNow(8), "PREPARE TRANSACTION 'dropped'")
	script(t, conn, "BEGIN", "SAVEPOINT a", enqueueNow(9), "ROLLBACK TO a", "COMMIT")
	script(t, conn, enqueueNow(10))
	wantPayloads(t, all, "3", "5", "6", "10")
	script(t, conn, "ROLLBACK PREPARED 'dropped'", enqueueNow(11))
	wantPayloads(t, all, "3", "5", "6", "10", "11")
	script(t, conn, "COMMIT PREPARED 'kept'")
	wantPayloads(t, all, "3", "5", "6", "10", "11", "7")
	eventually(t, "the cursor passes by what is still open", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status = 'delivered'") == 6
	})
	script(t, old, "COMMIT")
	wantPayloads(t, all, "3", "5", "6", "10", "11", "7", "1")
	b.auditUnordered(all, 0)
}

// wantPayloads waits for as many deliveries and checks that these are the ones.
func wantPayloads(t *testing.T, rec *actor, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages are delivered", len(want)), func() bool { return rec.count() >= len(want) })
	got := rec.payloads()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
}

// stuckStandby waits for a synchronous standby that does not exist: what commits is in the log, and in the stream, but
// visible to nobody.
func stuckStandby(t *testing.T, server *pgtest.Server, follow Follow) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	b.Exec(fmt.Sprintf("ALTER DATABASE %q SET synchronous_commit = local", b.DB.Name))
	b.Admin.Reset()
	b.App.Reset()
	_, g := b.startAt(follow)
	waiting := b.DB.Conn(t)
	script(t, waiting, "SET synchronous_commit = on")
	b.Exec("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	b.Exec("SELECT pg_reload_conf()")
	defer func() {
		b.Exec("ALTER SYSTEM RESET synchronous_standby_names")
		b.Exec("SELECT pg_reload_conf()")
		eventually(t, "the setting is back", func() bool { return scalar[string](b, "SHOW synchronous_standby_names") == "" })
	}()
	const waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"
	commit := func(sql string) <-chan error {
		committed := make(chan error, 1)
		go func() {
			_, err := waiting.Exec(t.Context(), sql)
			committed <- err
		}()
		return committed
	}
	// Commits wait from when the checkpointer has read the setting.
	eventually(t, "commits wait", func() bool {
		ended := commit("SELECT pg_logical_emit_message(true, 'test', '')")
		for len(ended) == 0 {
			if scalar[int](b, "SELECT count(*) "+waits) == 1 {
				b.Exec("SELECT pg_cancel_backend(pid) " + waits)
				return <-ended == nil
			}
		}
		return <-ended != nil
	})
	committed := commit(enqueueNow(1))
	eventually(t, "the commit waits for the standby", func() bool { return scalar[int](b, "SELECT count(*) "+waits) == 1 })
	b.Publish("t", "key", "2", "3", "4")
	wantPayloads(t, all, "2", "3", "4")
	audits := g.ticks("audit")
	if follow == FollowStream {
		eventually(t, "a window is closed meanwhile", func() bool { return g.ticks("audit") > audits+1 })
	}
	eventually(t, "progress is saved meanwhile", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status = 'delivered'") == 3
	})
	wantPayloads(t, all, "2", "3", "4")

	b.Exec("SELECT pg_cancel_backend(pid) " + waits)
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	wantPayloads(t, all, "2", "3", "4", "1")
	b.auditUnordered(all, 0)
	if n := g.sum("windows_completed_total", ""); n != 0 {
		t.Errorf("%v windows were completed from the table", n)
	}
}

// oldTransactionAtStart: no slot can be made while an older transaction runs. That holds up the stream, and nothing else.
func oldTransactionAtStart(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	old := b.DB.Conn(t)
	script(t, old, "BEGIN", enqueueNow(0))
	_, g := b.startWatched()
	load := b.traffic(2, 5*time.Millisecond)
	eventually(t, "messages are delivered", func() bool { return all.count() > 100 })
	if n := g.logged("following the stream"); n != 0 {
		t.Error("the stream is followed although a transaction is open that it has not seen")
	}
	script(t, old, "COMMIT")
	g.follows(1)
	load.stop()
	b.settled(all)
	b.audit(all, 0)
}
