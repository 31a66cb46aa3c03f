package relay

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// A relay that is told to stop while it hands a cursor over, or reloads it, still saves what it has delivered.
func TestStopWhileHandingOver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	all := b.subscribe("all", "{>}", "{}", "now")
	r, g := b.startWatched(func(c *Config) { c.SaveInterval = time.Hour }) // only the last save counts
	b.Publish("t", "", "1", "2", "3")
	wantPayloads(t, all, "1", "2", "3")
	lock, err := b.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback(context.WithoutCancel(t.Context()))
	if _, err := lock.Exec(t.Context(), "SELECT FROM postrider.cursors FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	b.Exec(`UPDATE postrider.subscriptions SET settings = '{"lanes": 1}'`)
	eventually(t, "the change is noticed", func() bool { return g.logged("subscription changed") == 1 })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stop()
	}()
	for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until) && g.logged(health.CannotSave) == 0; {
		async.Sleep(t.Context(), time.Millisecond) // the save must outlast the stop's beginning
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-stopped
	b.start()
	b.Publish("t", "", "4")
	wantPayloads(t, all, "1", "2", "3", "4")
}

// A clean stop may take longer than the lease, for a delivery under way does: others see that the relay lives, and nothing comes twice.
func TestSlowStopRepeatsNothing(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", "{}")
	answer, begun := make(chan struct{}), make(chan struct{}, 10)
	a.plays(func(context.Context, sinks.Delivery) error { begun <- struct{}{}; <-answer; return nil })
	free := sync.OnceFunc(func() { close(answer) })
	r := s.play()
	id := s.Publish("t", "", "1")
	<-begun
	first := r.now.Load().incarnation
	s.play()
	counter := func() int64 {
		return scalar[int64](s.bench, "SELECT coalesce(max(counter), -1) FROM postrider.relays WHERE incarnation = $1::text::uuid", first)
	}
	eventually(t, "they have met", func() bool { return counter() > 1 })
	t.Cleanup(free) // before the relays stop
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stop()
	}()
	eventually(t, "it has begun to stop", func() bool { return draining(r) })
	was := counter()
	eventually(t, "it shows for two and a half leases that it lives", func() bool { return counter() >= was+10 })
	free()
	<-stopped
	a.got(t, id)
	s.settledAll("sub")
	if n := len(a.all()); n != 1 {
		t.Errorf("one message was delivered %d times", n)
	}
}

// draining says whether a relay waits for what is under way.
func draining(r *running) bool {
	g := r.now.Load()
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ending) > 0
}

// A cursor that another relay, registered only now, takes while this one is about to do the same stays with the other.
func TestTakeoverSparesWhoeverWasFaster(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("all", "{>}", "{}", "now")
	b.Exec("SELECT postrider.pause('all')")
	// The statement that takes cursors waits at a gate where it looks for relays, after it has taken its snapshot.
	b.Exec(`CREATE FUNCTION postrider.gate() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN
			IF current_query() LIKE 'WITH free%' THEN
				PERFORM pg_advisory_lock_shared(77), pg_advisory_unlock_shared(77);
			END IF;
			RETURN true;
		END $$;
		ALTER TABLE postrider.relays RENAME TO relays_behind_the_gate;
		CREATE VIEW postrider.relays AS SELECT * FROM postrider.relays_behind_the_gate WHERE postrider.gate();
		GRANT ALL ON postrider.relays TO PUBLIC`)
	r := b.start(func(c *Config) {
		c.Follow, c.Lease = FollowTimer, time.Hour
	})
	eventually(t, "the relay looks for cursors", func() bool { g := r.now.Load(); return g != nil && g.polls.at.Load() != 0 })
	gate, err := pgx.Connect(t.Context(), b.DB.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close(context.WithoutCancel(t.Context()))
	if _, err := gate.Exec(t.Context(), "SELECT pg_advisory_lock(77)"); err != nil {
		t.Fatal(err)
	}
	b.Exec("SELECT postrider.resume('all')")
	eventually(t, "it is about to take the cursor", func() bool {
		return scalar[bool](b, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'WITH free%' AND wait_event = 'advisory')")
	})
	const other = "00000000-0000-0000-0000-000000000001"
	b.Exec("INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, $1, 'other', 'x')", other)
	b.Exec("UPDATE postrider.cursors SET owner = $1, epoch = epoch + 1", other)
	before := time.Now().UnixNano()
	if _, err := gate.Exec(t.Context(), "SELECT pg_advisory_unlock(77)"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the relay has looked again", func() bool { return r.now.Load().polls.at.Load() > before })
	if owner := scalar[string](b, "SELECT owner::text FROM postrider.cursors"); owner != other {
		t.Errorf("the cursor was taken from a living relay by %s", owner)
	}
}

// A relay that is told to stop when it has taken a cursor over and not begun to deliver lets it go.
func TestStopWhileTakingOver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("all", "{>}", "{}", "now")
	opening := make(chan struct{})
	r := b.start(func(c *Config) {
		c.Open = func(ctx context.Context, _ subscription.Subscription) (sinks.Sink, error) {
			close(opening)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	<-opening
	r.stop()
	if n := scalar[int](b, "SELECT count(*) FROM postrider.cursors WHERE owner IS NOT NULL"); n != 0 {
		t.Errorf("%d cursors belong to a relay that has stopped", n)
	}
}

// A stop that comes while a cursor is being taken over waits for that, and lets the cursor go.
func TestStopInTheMiddleOfATakeover(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("all", "{>}", "{}", "now")
	b.Exec("SELECT postrider.pause('all')")
	// A request to cancel the statement has no effect: such requests may come too late.
	b.Exec(`CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.owner IS NOT NULL THEN
				BEGIN
					PERFORM pg_advisory_lock_shared(78), pg_advisory_unlock_shared(78);
				EXCEPTION WHEN query_canceled THEN
					PERFORM pg_advisory_lock_shared(78), pg_advisory_unlock_shared(78);
				END;
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER gate BEFORE UPDATE ON postrider.cursors FOR EACH ROW EXECUTE FUNCTION public.gate()`)
	r := b.start()
	eventually(t, "the relay looks for cursors", func() bool { g := r.now.Load(); return g != nil && g.polls.at.Load() != 0 })
	gate, err := pgx.Connect(t.Context(), b.DB.URL())
	mend(t, err)
	defer gate.Close(context.WithoutCancel(t.Context()))
	_, err = gate.Exec(t.Context(), "SELECT pg_advisory_lock(78)")
	mend(t, err)
	b.Exec("SELECT postrider.resume('all')")
	waits := func() bool {
		return scalar[bool](b, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'WITH free%' AND wait_event = 'advisory')")
	}
	eventually(t, "it is taking the cursor", waits)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stop()
	}()
	for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until); { // long enough for a stop that waits for nothing
		async.Sleep(t.Context(), time.Millisecond)
	}
	_, err = gate.Exec(t.Context(), "SELECT pg_advisory_unlock(78)")
	mend(t, err)
	<-stopped
	eventually(t, "the statement has ended", func() bool { return !waits() })
	if n := scalar[int](b, "SELECT count(*) FROM postrider.cursors WHERE owner IS NOT NULL"); n != 0 {
		t.Error("the cursor belongs to a relay that has stopped")
	}
}
