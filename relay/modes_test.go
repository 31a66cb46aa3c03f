package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/internal/schema"
	"github.com/postrider/postrider/sinks"
)

// fails runs a relay that is expected to give up with an error that has all of the texts.
func (b *bench) fails(change func(*Config), texts ...string) {
	b.t.Helper()
	r := b.start(change)
	select {
	case <-r.done:
	case <-time.After(patience):
		r.stop()
		b.t.Errorf("the relay still runs after %s, ready: %v", patience, r.Ready())
		return
	}
	for _, text := range texts {
		if r.err == nil || !strings.Contains(r.err.Error(), text) {
			b.t.Errorf("run returned %v, which does not say %q", r.err, text)
		}
	}
}

func follow(s Follow) func(*Config) { return func(c *Config) { c.Follow = s } }

// timerInstead checks that a relay that may choose delivers by the timer.
func (b *bench) timerInstead(because string) {
	b.t.Helper()
	all := b.subscribe("all", "{>}", "{}", "now")
	r, g := b.startWatched()
	b.Publish("t", "key", "1", "2")
	wantPayloads(b.t, all, "1", "2")
	if g.logged("follow=timer") != 1 || g.logged(because) != 1 {
		b.t.Errorf("the log does not say that and why the timer is used: %s", because)
	}
	if g.logged("level=WARN") != 0 {
		b.t.Error("the choice is logged as trouble")
	}
	r.stop()
}

func TestWithoutLogicalDecoding(t *testing.T) {
	t.Parallel()
	b := benchAt(t, pgtest.Servers(t, pgtest.Options{WALLevel: "replica"}))
	b.fails(follow(FollowStream), "follow stream", `wal_level is "replica"`, "ALTER SYSTEM SET wal_level = logical")
	b.timerInstead("wal_level is")
}

func TestWithoutReplication(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec("ALTER ROLE " + b.Role + " NOREPLICATION")
	b.fails(follow(FollowStream), "follow stream", "the role may not replicate", "ALTER ROLE")
	b.timerInstead("may not replicate")
}

func TestWithoutPublication(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec("DROP PUBLICATION postrider")
	b.fails(follow(FollowStream), "follow stream", "publication postrider is missing", "postrider doctor")
	b.timerInstead("publication postrider is missing")
	for create, what := range map[string]string{
		"CREATE TABLE theirs (n int); CREATE PUBLICATION postrider FOR TABLE theirs WITH (publish_via_partition_root)": "public.theirs",
		"CREATE PUBLICATION postrider FOR ALL TABLES WITH (publish = 'insert', publish_via_partition_root)":            "all tables",
		"CREATE PUBLICATION postrider": "something else",
		"CREATE PUBLICATION postrider WITH (publish = 'insert', publish_via_partition_root)":                          "no table",
		"CREATE PUBLICATION postrider FOR TABLE postrider.outbox, postrider.source WITH (publish_via_partition_root)": "postrider.outbox, postrider.source",
		"CREATE PUBLICATION postrider FOR TABLE postrider.outbox":                                                     "something else",
	} {
		b.Exec(create)
		b.fails(follow(FollowStream), "follow stream: the publication postrider is for "+what, "postrider doctor")
		b.Exec("DROP PUBLICATION postrider")
	}
}

// A table that somebody adds to the publication while relays stream is none of theirs, whatever its columns are called.
func TestOtherTablesInThePublication(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	all := b.subscribe("all", "{>}", "{}", "now")
	_, g := b.startWatched()
	g.follows(1)
	b.Exec("CREATE TABLE lookalike (LIKE postrider.outbox INCLUDING DEFAULTS); CREATE TABLE other (n int)")
	b.Exec("ALTER PUBLICATION postrider ADD TABLE lookalike, other")
	b.Exec("BEGIN; INSERT INTO lookalike (topic, payload) VALUES ('not.ours', '1'); INSERT INTO other VALUES (1); INSERT INTO postrider.outbox (topic, payload) VALUES ('ours', '1'); COMMIT")
	ids := b.Publish("ours", "", "2", "3")
	b.settled(all)
	if all.count() != 3 {
		t.Errorf("%d messages arrived, want the 3 of the outbox (the last: %v)", all.count(), ids)
	}
	if n := g.logged("stream ended"); n != 0 {
		t.Errorf("the stream ended %d times", n)
	}
}

func TestListenNeedsNotifications(t *testing.T) {
	t.Parallel()
	newBench(t).fails(follow(FollowListen), "follow listen", "postrider.enable_notify()")
}

func TestAnotherCluster(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec("UPDATE postrider.source SET system_identifier = system_identifier + 1")
	b.fails(follow(FollowAuto), "another cluster", "postrider rebase")
	b.Exec("UPDATE postrider.source SET system_identifier = system_identifier - 1, database_oid = 1")
	b.fails(follow(FollowAuto), "another cluster or database", "postrider rebase")
	if n := scalar[int](b, "SELECT count(*) FROM postrider.relays"); n != 0 {
		t.Errorf("%d relays registered where they must not run", n)
	}
}

func TestSchemaMissingOrOld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec("UPDATE postrider.schema_migrations SET version_id = 20 WHERE version_id > 0")
	b.fails(follow(FollowAuto), fmt.Sprintf("schema version 20: this relay needs %d", schema.Version), "postrider migrate")
	empty := pgtest.Empty(t)
	b.fails(func(c *Config) { c.DatabaseURL = empty.URL() }, "no schema postrider", "postrider migrate")
}

// TestMissingPrivilege takes away one privilege at a time. Waiting does not mend that, whenever it shows.
func TestMissingPrivilege(t *testing.T) {
	t.Parallel()
	for _, privilege := range []string{
		"USAGE ON SCHEMA postrider", "SELECT ON postrider.schema_migrations", "SELECT ON postrider.source", "SELECT ON postrider.relays",
		"INSERT ON postrider.relays", "SELECT ON postrider.subscriptions", "UPDATE ON postrider.cursors", "SELECT ON postrider.outbox",
		"INSERT ON postrider.parked", "SELECT ON postrider.parked",
	} {
		t.Run(privilege, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			all := b.subscribe("all", "{>}", "{}", "now")
			all.answer(func(sinks.Delivery) error { return sinks.Permanent(errRollback) }) // makes every message an exception
			b.Exec("REVOKE " + privilege + " FROM " + b.Role)
			b.Publish("t", "", "1")
			b.fails(follow(FollowAuto), "permission denied", "postrider grants --relay")
		})
	}
}

// A connection whose wait was cancelled ends by itself, in the background. Closing it waits for that.
func TestCloseWaitsForCancelledConnection(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 20 {
		conn, err := pgconn.Connect(t.Context(), b.DB.URL())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := conn.Exec(ctx, "SELECT pg_sleep(60)").ReadAll(); err == nil {
			t.Fatal("the statement was not cancelled")
		}
		cancel()
		dbconn.Close(conn)
		select {
		case <-conn.CleanupDone():
		default:
			t.Fatal("closed, and its goroutine goes on")
		}
	}
}

// TestRunLeavesNothingBehind is not parallel: it counts goroutines.
func TestRunLeavesNothingBehind(t *testing.T) {
	for _, s := range []Follow{FollowStream, FollowListen, FollowTimer} {
		t.Run(string(s), func(t *testing.T) {
			b := newBench(t)
			b.Exec("SELECT postrider.enable_notify()")
			all := b.subscribe("all", "{>}", "{}", "now")
			b.Publish("t", "key", "0") // the pools have their connections now
			before := goleak.IgnoreCurrent()
			r := b.start(follow(s))
			b.Publish("t", "key", "1", "2")
			wantPayloads(t, all, "0", "1", "2")
			r.stop()
			if r.err != nil {
				t.Errorf("run returned %v", r.err)
			}
			if err := goleak.Find(before); err != nil {
				t.Error(err)
			}
			eventually(t, "no connection is left", func() bool {
				return scalar[int](b, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", b.Role) == 0
			})
			if n := scalar[int](b, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"); n != 0 {
				t.Errorf("%d slots are left", n)
			}
		})
	}
}
