package relay

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// TestCrash shares a private cluster, which each part ends in some way.
func TestCrash(t *testing.T) {
	t.Parallel()
	server := privateServer(t, nil)
	for _, follow := range []Follow{FollowStream, FollowTimer} {
		t.Run("immediate restart/"+string(follow), func(t *testing.T) { immediateRestart(t, server, follow) })
		t.Run("reused transaction ids/"+string(follow), func(t *testing.T) { reusedIDs(t, server, follow) })
	}
	t.Run("emptied relays", func(t *testing.T) { emptiedRelays(t, server) })
	t.Run("server away for a while", func(t *testing.T) { serverAway(t, server) })
	t.Run("all connections ended", func(t *testing.T) { connectionsEnded(t, server) })
	t.Run("standby", func(t *testing.T) { standby(t, server) })
}

func immediateRestart(t *testing.T, server *pgtest.Server, follow Follow) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	r, g := b.startAt(follow)
	load := b.traffic(3, 2*time.Millisecond)
	eventually(t, "messages are delivered", func() bool { return all.count() > 200 })
	check := b.savedIsNotRepeated(all)
	if err := server.Restart(t.Context(), "immediate"); err != nil {
		t.Fatal(err)
	}
	was := all.distinct()
	eventually(t, "messages are delivered after the crash", func() bool { return all.distinct() > was+200 })
	load.stop()
	b.settled(all)
	if n := g.logged("registration is gone"); n != 1 {
		t.Errorf("the relay noticed %d crashes", n)
	}
	check()
	b.audit(all, was) // the check is the tighter one
	if follow == FollowStream {
		g.follows(2)
	}
	r.stop()
	if n := scalar[int](b, "SELECT count(*) FROM postrider.deliveries WHERE status <> 'delivered'"); n != 0 {
		t.Errorf("%d messages are not shown as delivered", n)
	}
}

// reusedIDs kills one backend when the last transactions have rolled back. Their ids never reached the log and are handed
// out again: to a snapshot from before, the next message looks settled.
func reusedIDs(t *testing.T, server *pgtest.Server, follow Follow) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	// The relay's own saves would put later ids into the log.
	r, g := b.startWatched(func(c *Config) { c.Follow, c.SaveInterval = follow, time.Hour })
	if follow == FollowStream {
		g.follows(1)
	}
	b.Publish("t", "", "1")
	wantPayloads(t, all, "1")
	victim, conn := b.DB.Conn(t), b.DB.Conn(t)
	var pid int
	if err := victim.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	// What nobody has committed stays out of the log meanwhile.
	script(t, victim, "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
	eventually(t, "the setting holds", func() bool { return scalar[string](b, "SHOW wal_writer_delay") == "10s" })
	script(t, conn, "DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM pg_current_xact_id(); ROLLBACK; END LOOP; END $$")
	var lost uint64
	if err := conn.QueryRow(t.Context(), "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1").Scan(&lost); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a snapshot in memory sees them", func() bool {
		now := r.now.Load()
		return now != nil && now.feed.Closed().Snapshot.Sees(lost)
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server has noticed", func() bool { return conn.Ping(t.Context()) != nil })
	var used uint64
	eventually(t, "the server is back", func() bool {
		b.Admin.Reset()
		return b.Admin.QueryRow(t.Context(), `WITH m AS (INSERT INTO postrider.outbox (topic, payload) VALUES ('t', '2') RETURNING xid)
			SELECT xid::text::bigint FROM m`).Scan(&used) == nil
	})
	b.Exec("ALTER SYSTEM RESET wal_writer_delay")
	b.Exec("SELECT pg_reload_conf()")
	if used > lost {
		t.Fatalf("the message has transaction id %d, which is not one of those up to %d that were lost: the test shows nothing", used, lost)
	}
	eventually(t, "the message is delivered", func() bool { return strings.HasSuffix(strings.Join(all.payloads(), " "), "2") })
	b.settled(all)
	b.audit(all, 1)
}

// emptiedRelays does what a crash does to the unlogged table, alone.
func emptiedRelays(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startAt(FollowStream)
	load := b.traffic(2, 5*time.Millisecond)
	var checks []func()
	for n := range 3 {
		was := all.distinct()
		eventually(t, "messages are delivered", func() bool { return all.distinct() > was+50 })
		checks = append(checks, b.savedIsNotRepeated(all))
		b.Exec("TRUNCATE postrider.relays")
		eventually(t, "the relay starts over", func() bool { return g.logged("registration is gone") == n+1 })
	}
	load.stop()
	b.settled(all)
	for _, check := range checks {
		check()
	}
	b.audit(all, 3*all.distinct())
	if n := scalar[int](b, "SELECT count(*) FROM postrider.relays"); n != 1 {
		t.Errorf("%d relays are registered", n)
	}
}

// serverAway shuts the server down in order: memory stays good, and so does the relay's row.
func serverAway(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	r, g := b.startAt(FollowStream)
	load := b.traffic(2, 5*time.Millisecond)
	eventually(t, "messages are delivered", func() bool { return all.count() > 100 })
	if err := syscall.Kill(server.Pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "several attempts to connect fail", func() bool { return g.logged("cannot be ") > 6 })
	if err := server.Restart(t.Context(), "fast"); err != nil { // it starts again
		t.Fatal(err)
	}
	was := all.count()
	eventually(t, "messages are delivered again", func() bool { return all.count() > was+100 })
	eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
	load.stop()
	b.settled(all)
	b.audit(all, 0)
	g.follows(2)
}

func connectionsEnded(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	r, g := b.startAt(FollowStream)
	load := b.traffic(2, 5*time.Millisecond)
	for range 3 {
		was := all.count()
		eventually(t, "messages are delivered", func() bool { return all.count() > was+50 })
		b.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", b.Role)
	}
	was := all.count()
	eventually(t, "messages are delivered", func() bool { return all.count() > was+50 })
	load.stop()
	b.settled(all)
	b.audit(all, 0)
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if n := g.logged("registration is gone"); n != 0 {
		t.Errorf("the relay started over %d times: its snapshots were good", n)
	}
}

// standby turns the server into a hot standby under a running relay, and back.
func standby(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	r, _ := b.startAt(FollowStream)
	b.Publish("t", "", "1")
	wantPayloads(t, all, "1")
	file := filepath.Join(server.Dir(), "data", "standby.signal")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	notReady := func(r *running) func() bool {
		return func() bool {
			err := r.Ready()
			return err != nil && strings.Contains(err.Error(), "the server is a standby: deliveries need the primary")
		}
	}
	eventually(t, "the relay says that it needs the primary", notReady(r))
	second := b.start(func(c *Config) { c.Name = "second" })
	eventually(t, "a relay that is started now says so too", notReady(second))
	second.stop()
	if second.err != nil {
		t.Errorf("a standby ended the relay: %v", second.err)
	}

	b.Admin.Reset()
	b.App.Reset()
	if !scalar[bool](b, "SELECT pg_promote()") {
		t.Fatal("not promoted")
	}
	b.Publish("t", "", "2")
	eventually(t, "messages are delivered after the promotion", func() bool { return len(all.missing(b.stored())) == 0 })
	b.audit(all, 1)
	eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
}
