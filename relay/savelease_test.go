package relay

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// TestSaveLeasesNothingAgain: a save whose answer was lost is made again. If the receiver has failed the delivery meanwhile, or its lease
// is over, the same lease must not come back; a retry may follow. What is still leased is the receiver's.
func TestSaveLeasesNothingAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("all", "{>}", "{}", "now")
	r := b.start(func(c *Config) { c.SaveInterval = time.Hour })
	eventually(t, "the subscription is delivered", func() bool { g := r.now.Load(); return g != nil && g.running()[subscription.Whole("all")] != nil })
	g := r.now.Load()
	run := g.running()[subscription.Whole("all")]
	b.Exec(`INSERT INTO postrider.parked (subscription, id, created_at, token, topic, payload, state, due) VALUES
		('all', 901, '2000-01-01 00:00:00+00', 7, 't', '0', 'failed', now()),
		('all', 902, '2000-01-01 00:00:00+00', 7, 't', '0', 'leased', now() - interval '1 minute'),
		('all', 903, '2000-01-01 00:00:00+00', 7, 't', '0', 'leased', now() + interval '1 hour')`)
	save := func(state string, lease time.Duration) {
		t.Helper()
		p := store.Progress{Part: subscription.Whole("all"), Epoch: run.Env.Cursor.Epoch, Position: run.Env.Cursor.Position}
		for id := int64(901); id <= 903; id++ {
			p.Changes = append(p.Changes, store.Change{Message: snapshot.Ident{ID: id}, State: state, Token: 8, Lease: lease, Due: time.Now()})
		}
		saved, _, err := store.Save(t.Context(), g.pool, g.incarnation, []store.Progress{p})
		if err != nil || len(saved) != 1 {
			t.Fatalf("saved %v: %v", saved, err)
		}
	}
	is := func() string {
		return scalar[string](b, "SELECT string_agg(state || ' ' || token, ', ' ORDER BY id) FROM postrider.parked")
	}
	save(states.Leased, time.Hour)
	if got, want := is(), "failed 7, leased 7, leased 7"; got != want {
		t.Errorf("after a late lease the rows are %q, want %q", got, want)
	}
	save(states.Retrying, 0)
	if got, want := is(), "retrying 7, retrying 7, leased 7"; got != want {
		t.Errorf("after a retry the rows are %q, want %q", got, want)
	}
}
