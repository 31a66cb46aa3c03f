package relay

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
)

// TestStream shares one private cluster: slots wait for every transaction of the cluster.
func TestStream(t *testing.T) {
	t.Parallel()
	server := privateServer(t, map[string]string{"max_replication_slots": "6"})
	for name, test := range map[string]func(*testing.T, *pgtest.Server){
		"carries the rows":             streamCarriesRows,
		"goes on after a cut":          streamIsCut,
		"goes on after a drop":         publicationIsDropped,
		"completes a hole":             publicationHasHole,
		"oversized transaction":        streamOverflows,
		"WAL budget":                   walBudgetIsExceeded,
		"producers outrun it":          streamIsOutrun,
		"only while somebody is live":  streamNeedsLiveSubscriptions,
		"slot vanishes with its relay": slotVanishes,
		"idle database":                idleCostsNothing,
		"two free slots or none":       slotsAreSpared,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

const slotCount = "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'postrider%'"

func streamCarriesRows(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startWatched()
	g.follows(1)
	tables := g.ticks("table")
	load := b.traffic(2, 5*time.Millisecond)
	eventually(t, "500 messages are delivered", func() bool { return all.count() > 500 })
	load.stop()
	b.settled(all)
	if n := g.ticks("table"); n != tables {
		t.Errorf("%v ticks read the table while the stream was there", n-tables)
	}
	if n := g.sum("windows_completed_total", ""); n != 0 {
		t.Errorf("%v windows were completed from the table", n)
	}
	if g.ticks("stream") < 50 || g.ticks("audit") < 2 {
		t.Errorf("%v ticks of the stream, %v audits", g.ticks("stream"), g.ticks("audit"))
	}
	b.audit(all, 0)
}

func streamIsCut(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startWatched()
	load := b.traffic(2, 5*time.Millisecond)
	for n := range 3 {
		g.follows(n + 1)
		was := all.count()
		eventually(t, "messages are delivered", func() bool { return all.count() > was+100 })
		b.Exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND database = current_database()")
	}
	g.follows(4)
	load.stop()
	b.settled(all)
	b.audit(all, 0)
	if n := g.sum("stream_gaps_total", ""); n < 3 {
		t.Errorf("%v gaps after three cuts", n)
	}
}

func publicationIsDropped(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startWatched()
	g.follows(1)
	load := b.traffic(2, 5*time.Millisecond)
	b.Exec("DROP PUBLICATION postrider")
	// From PostgreSQL 18 on the server warns and leaves the rows out.
	eventually(t, "the stream ends, or the audit finds the hole", func() bool {
		return g.logged(health.CannotStream) > 0 || g.logged("the stream has a hole") > 0
	})
	was := all.count()
	eventually(t, "messages are delivered without it", func() bool { return all.count() > was+100 })
	b.Exec("CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true)")
	g.follows(2)
	load.stop()
	b.settled(all)
	b.audit(all, 0)
}

// publicationHasHole takes the table out of the publication, which nobody tells the stream: rows are left out in silence.
func publicationHasHole(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startWatched()
	g.follows(1)
	load := b.traffic(2, 5*time.Millisecond)
	was := all.count()
	eventually(t, "messages are delivered", func() bool { return all.count() > was+50 })
	b.Exec("ALTER PUBLICATION postrider DROP TABLE postrider.outbox")
	eventually(t, "the audit finds the hole", func() bool { return g.logged("the stream has a hole") > 0 })
	b.Exec("ALTER PUBLICATION postrider ADD TABLE postrider.outbox")
	g.follows(2)
	load.stop()
	b.settled(all)
	if n := g.sum("windows_completed_total", ""); n == 0 {
		t.Error("no window was completed from the table")
	}
	b.auditUnordered(all, 0) // a hole that is not noticed yet may reorder one window
}

func streamOverflows(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	other := b.subscribe("other", "{other}", "{}", "now")
	const limit = 1 << 20
	r, g := b.startWatched(func(c *Config) { c.MemoryLimit = limit })
	g.follows(1)
	eventually(t, "both subscriptions are live", func() bool { return g.sum("passes_total", "all") == 1 && g.sum("passes_total", "other") == 1 })
	b.Exec(`INSERT INTO postrider.outbox (topic, key, payload)
		SELECT 'bulk', 'k' || n % 10, to_jsonb(repeat('x', 100)) FROM generate_series(1, 20000) n`)
	var most int64
	want := b.stored()
	eventually(t, "everything is delivered", func() bool {
		if now := r.now.Load(); now != nil {
			_, bytes := now.feed.Backlog.Holds()
			most = max(most, bytes+now.budget.Used.Load())
		}
		return all.count() >= len(want)
	})
	b.Publish("other", "", "1")
	eventually(t, "the other subscription goes on", func() bool { return other.count() == 1 })
	if most > limit {
		t.Errorf("%d bytes of messages were held, the limit is %d", most, limit)
	}
	b.audit(all, 0)
	if n := g.sum("passes_total", "all"); n < 2 {
		t.Errorf("%v passes: the subscription was not sent back to the table", n)
	}
	if n := g.sum("passes_total", "other"); n != 1 {
		t.Errorf("%v passes of a subscription without a match", n)
	}
	g.follows(2)
	b.Publish("bulk", "", "1")
	b.settled(all)
}

func walBudgetIsExceeded(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	b.Exec("CREATE TABLE filler (x text)")
	_, g := b.startWatched(func(c *Config) { c.WALBudget = 2 << 20 })
	g.follows(1)
	old := b.DB.Conn(t)
	if _, err := old.Exec(t.Context(), "BEGIN; INSERT INTO filler VALUES ('old')"); err != nil {
		t.Fatal(err)
	}
	b.Exec("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 6000)")
	eventually(t, "the slot is gone", func() bool {
		return g.logged("stream given up") == 1 && scalar[int](b, slotCount) == 0
	})
	tables := g.ticks("table")
	b.Publish("bulk", "", "1", "2", "3")
	b.settled(all)
	if g.ticks("table") == tables {
		t.Error("messages were delivered without reading the table")
	}
	if n := g.logged("following the stream"); n != 1 {
		t.Errorf("followed the stream %d times while the old transaction was open", n)
	}
	if _, err := old.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	g.follows(2)
	b.Publish("bulk", "", "4")
	b.settled(all)
	b.audit(all, 0)
}

// streamIsOutrun makes the server's sender late, as it is where it gets too little of the processors.
func streamIsOutrun(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startWatched(func(c *Config) { c.busyRate = 30 })
	g.follows(1)
	load := b.traffic(2, 5*time.Millisecond)
	sender := scalar[int](b, "SELECT active_pid FROM pg_replication_slots WHERE slot_name LIKE 'postrider%'")
	eventually(t, "the stream is given up", func() bool {
		if syscall.Kill(sender, syscall.SIGSTOP) == nil {
			time.Sleep(50 * time.Millisecond)         // commits without being sent
			_ = syscall.Kill(sender, syscall.SIGCONT) // it has ended if it was ending
		}
		return g.logged("stream given up for a while") == 1
	})
	eventually(t, "the slot is gone", func() bool { return scalar[int](b, slotCount) == 0 })
	was, tables := all.count(), g.ticks("table")
	eventually(t, "messages are delivered without it", func() bool { return all.count() > was+100 })
	if g.ticks("table") == tables {
		t.Error("no tick read the table")
	}
	if n := g.logged("following the stream"); n != 1 {
		t.Errorf("followed the stream %d times under load", n)
	}
	load.stop()
	g.follows(2)
	b.Publish("x", "", "1")
	b.settled(all)
	b.audit(all, 0)
}

func streamNeedsLiveSubscriptions(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	r, g := b.startWatched()
	eventually(t, "the relay is ready", func() bool { return r.Ready() == nil })
	if n := scalar[int](b, slotCount); n != 0 {
		t.Errorf("%d slots without any subscription", n)
	}
	b.subscribe("all", "{>}", "{}", "now")
	g.follows(1)
	b.Exec("SELECT postrider.pause('all')")
	eventually(t, "the slot is dropped once nobody is live", func() bool { return scalar[int](b, slotCount) == 0 })
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	b.Exec("SELECT postrider.resume('all')")
	g.follows(2)
	b.Publish("x", "", "1")
	b.settled(b.recorder("all"))
	if n := g.logged(health.CannotStream); n != 0 {
		t.Errorf("ending the stream on purpose was logged %d times as trouble", n)
	}
}

// slotVanishes cuts a relay off as if its process had been killed.
func slotVanishes(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	b.subscribe("all", "{>}", "{}", "now")
	link := linktest.New(t, fmt.Sprintf("127.0.0.1:%d", server.Port()))
	_, g := b.startWatched(through(t, link), func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	g.follows(1)
	link.Down()
	eventually(t, "no slot is left", func() bool { return scalar[int](b, slotCount) == 0 })
}

// idleCostsNothing watches the log's position and the number of transactions of a database where nothing happens.
func idleCostsNothing(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	b.Exec("ALTER ROLE " + b.Role + " SET log_statement = 'all'")
	_, g := b.startWatched(func(c *Config) { c.Lease = 10 * time.Second })
	b.Publish("x", "", "1", "2")
	g.follows(1)
	b.settled(all)
	// The server's own records, of running transactions for one, are small.
	const most = 200
	written := func(since string) int64 {
		return scalar[int64](b, "SELECT (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::bigint", since)
	}
	position := func() string { return scalar[string](b, "SELECT pg_current_wal_insert_lsn()::text") }
	eventually(t, "what was under way is written", func() bool {
		since := position()
		async.Sleep(t.Context(), 600*time.Millisecond)
		return written(since) < most
	})
	const seconds = 2
	since, xmax := position(), scalar[string](b, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
	before := statementsOf(t, server, b.Role)
	async.Sleep(t.Context(), seconds*time.Second)
	n := statementsOf(t, server, b.Role) - before
	if now := scalar[string](b, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"); now != xmax || written(since) >= most {
		t.Errorf("an idle database was written to: %d bytes of log, transactions %s to %s", written(since), xmax, now)
	}
	if n == 0 || n > 12*seconds {
		t.Errorf("%d statements in %d seconds on an idle database", n, seconds)
	}
	t.Logf("%.1f statements a second", float64(n)/seconds)
}

// statementsOf counts what a role has run, by the server's log.
func statementsOf(t *testing.T, server *pgtest.Server, role string) (n int) {
	t.Helper()
	text, err := os.ReadFile(server.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, role+"@") && (strings.Contains(line, "LOG:  execute") || strings.Contains(line, "LOG:  statement:")) {
			n++
		}
	}
	return n
}

func slotsAreSpared(t *testing.T, server *pgtest.Server) {
	b := benchAt(t, server)
	all := b.subscribe("all", "{>}", "{}", "now")
	for n := range 5 { // of 6
		slot := fmt.Sprintf("others_%d", n)
		b.Exec("SELECT pg_create_physical_replication_slot($1)", slot)
		defer b.Exec("SELECT pg_drop_replication_slot($1)", slot)
	}
	r, g := b.startWatched()
	load := b.traffic(1, 5*time.Millisecond)
	eventually(t, "messages are delivered", func() bool { return all.count() > 200 })
	load.stop()
	b.settled(all)
	if n := g.logged("no replication slot or WAL sender to spare"); n != 1 {
		t.Errorf("the want of slots was logged %d times in a second", n)
	}
	if n := scalar[int](b, slotCount); n != 0 {
		t.Errorf("%d slots of the relay", n)
	}
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	b.audit(all, 0)
}
