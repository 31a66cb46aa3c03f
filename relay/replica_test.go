package relay

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// onReplica is a scene whose relays read from a standby.
type onReplica struct {
	*scene
	*gauges
	primary, standby *pgtest.Server
}

func newOnReplica(t *testing.T) *onReplica {
	t.Helper()
	t.Parallel()
	primary := pgtest.Servers(t, pgtest.Options{})
	o := &onReplica{scene: &scene{bench: benchAt(t, primary), actors: make(map[string]*actor)}, primary: primary}
	o.standby = pgtest.Standbys(t, primary, pgtest.Options{})
	return o
}

// reads plays a relay that reads from there.
func (o *onReplica) reads(url string) *running {
	o.scene.t.Helper()
	return o.play(func(c *Config) {
		o.gauges = newGauges(o.scene.t)
		o.watch(c)
		c.ReplicaURL, c.MemoryLimit = url, 1<<20
	})
}

// pages counts those that were to come from the replica, by what came of that.
func (o *onReplica) pages(result string) float64 { return o.sum("replica_pages_total", result) }

// inOrder waits until each of the messages has come once more, and looks whether those of a key came in order.
func (o *onReplica) inOrder(a *actor, times int, ids []int64) {
	t := o.scene.t
	t.Helper()
	eventually(t, "all have come", func() bool { return a.count() == times*len(ids) })
	if missing, swaps := a.missing(ids), a.swaps(); len(missing) > 0 || len(swaps) > 0 {
		t.Errorf("%d did not come, %d out of order", len(missing), len(swaps))
	}
}

// standbySays asks the standby.
func (o *onReplica) standbySays(sql string) (n int) {
	t := o.scene.t
	t.Helper()
	conn, err := pgx.Connect(t.Context(), o.standby.URL(o.DB.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A pass is read from the replica but for its first page, and goes on at the primary once the replica is gone.
func TestPassesReadTheReplica(t *testing.T) {
	o := newOnReplica(t)
	a := o.cast("mail", "{mail.>}", "{}")
	ids := o.bulk("mail.sent", 30_000, 50)
	o.reads(o.standby.URL(o.DB.Name))
	o.inOrder(a, 1, ids)
	if read, failed := o.pages("read"), o.pages("failed"); read < 5 || failed > 0 {
		t.Errorf("%v pages were read on the replica, and %v failed", read, failed)
	}
	mend(t, o.standby.Kill())
	before := o.pages("read")
	o.Exec("SELECT postrider.replay('mail', 'earliest')")
	o.inOrder(a, 2, ids)
	if failed := o.pages("failed"); failed == 0 || failed > before/2 || o.pages("read") != before || o.logged("the replica cannot be read, and the primary is read instead") != 1 {
		t.Errorf("%v pages failed, %v were read on a replica that is not there, %d lines", o.pages("failed"), o.pages("read")-before, o.logged("the replica cannot be read"))
	}
}

// What a replica that is behind does not show is not taken for what is not there.
func TestReplicaThatIsBehind(t *testing.T) {
	o := newOnReplica(t)
	a := o.cast("mail", "{mail.>}", "{}")
	ids := o.bulk("mail.sent", 3000, 50)
	eventually(t, "the standby has them", func() bool { return o.standbySays("SELECT count(*) FROM postrider.outbox") == len(ids) })
	o.standbySays("SELECT 1 FROM pg_wal_replay_pause()")
	ids = append(ids, o.bulk("mail.sent", 27_000, 50)...)
	o.reads(o.standby.URL(o.DB.Name))
	o.inOrder(a, 1, ids)
	if read, behind := o.pages("read"), o.pages("behind"); read > 0 || behind == 0 {
		t.Errorf("%v pages were read on a replica that is behind, and %v times it was seen to be", read, behind)
	}
	o.standbySays("SELECT 1 FROM pg_wal_replay_resume()")
	upTo := scalar[string](o.bench, "SELECT pg_current_wal_insert_lsn()::text")
	eventually(t, "the standby has caught up", func() bool {
		return o.standbySays("SELECT CASE WHEN pg_last_wal_replay_lsn() >= '"+upTo+"' THEN 1 ELSE 0 END") == 1
	})
	o.Exec("SELECT postrider.replay('mail', 'earliest')")
	o.inOrder(a, 2, ids)
	if o.pages("read") == 0 {
		t.Error("no page was read on the replica after it had caught up")
	}
}

// A standby of another cluster, which is far ahead of this one, is not believed.
func TestReplicaOfAnotherCluster(t *testing.T) {
	o := newOnReplica(t)
	other := pgtest.Servers(t, pgtest.Options{})
	stranger := benchAt(t, other)
	for range 5 { // a segment of WAL each
		stranger.Exec("SELECT pg_switch_wal()")
		stranger.Exec("CREATE TABLE public.x (); DROP TABLE public.x")
	}
	a := o.cast("mail", "{mail.>}", "{}")
	ids := o.bulk("mail.sent", 30_000, 50)
	o.reads(pgtest.Standbys(t, other, pgtest.Options{}).URL(stranger.DB.Name))
	o.inOrder(a, 1, ids)
	if read, behind := o.pages("read"), o.pages("behind"); read > 0 || behind == 0 {
		t.Errorf("%v pages were read from a stranger, %v refused", read, behind)
	}
}

// A primary is no replica: deliveries go on without it, and the log says why.
func TestPrimaryIsNoReplica(t *testing.T) {
	o := newOnReplica(t)
	a := o.cast("mail", "{mail.>}", "{}")
	ids := o.bulk("mail.sent", 30_000, 50)
	o.reads(o.primary.URL(o.DB.Name))
	o.inOrder(a, 1, ids)
	if read, failed := o.pages("read"), o.pages("failed"); read > 0 || failed == 0 || o.logged("the server is a primary: a replica to read from must be a hot standby") != 1 {
		t.Errorf("%v pages were read there, %v failed", read, failed)
	}
}
