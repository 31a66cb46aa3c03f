package relay

import (
	"context"
	"errors"
	"testing"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// A relay that has lost its cursor, and does not know that yet, draws no conclusions from what it does not find: what another
// owner has made a dead letter goes on holding its key.
func TestLostCursorReleasesNoKey(t *testing.T) {
	s := newScene(t)
	holds := s.cast("holds", "{>}", `{"backoff_initial": "400ms", "backoff_max": "400ms", "on_dead": "hold"}`)
	holds.plays(failing("bad", 100, errScene))
	var log gauges
	log.t = t
	s.play(func(c *Config) { c.Logger = newTestLogger(&log) })
	bad := s.publish("bad", "k", `1`)
	s.shows("holds", "retrying", bad...)
	behind := s.publish("good", "k", `2`)
	s.shows("holds", "held", behind...)

	// Nothing but the message's own row tells the relay about it: it cannot look at subscriptions.
	blocker, err := s.admin.Begin(t.Context())
	mend(t, err)
	defer blocker.Rollback(context.WithoutCancel(t.Context()))
	_, err = blocker.Exec(t.Context(), "LOCK TABLE postrider.subscriptions IN ACCESS EXCLUSIVE MODE")
	mend(t, err)
	s.exec("UPDATE postrider.cursors SET owner = gen_random_uuid(), epoch = epoch + 1; UPDATE postrider.parked SET state = 'dead' WHERE state = 'retrying'")
	eventually(t, "the relay has looked for the message", func() bool { return log.logged(health.CannotLoad) > 0 })
	mend(t, blocker.Rollback(t.Context()))

	more := s.publish("good", "", `3`) // by whoever owns the cursor next: the same relay, with another epoch
	holds.got(t, more)
	s.shows("holds", "held", behind...)
	if got := holds.accepted("k"); len(got) > 0 {
		t.Errorf("messages %v were delivered past the dead letter of their key", got)
	}
}

// A page leaves out what is parked: it says nothing if somebody else has parked it.
func TestLostCursorReadsNoPage(t *testing.T) {
	s := newScene(t)
	actor := s.cast("jobs", "{>}", "{}")
	ids := s.publish("job", "k", `1`, `2`)
	r := s.play()
	actor.got(t, ids)
	g := r.now.Load()
	epoch := scalar[int64](s.bench, "SELECT epoch FROM postrider.cursors")
	for name, c := range map[string]struct {
		epoch int64
		want  error
	}{"the owner": {epoch, nil}, "of another epoch": {epoch - 1, store.ErrLost}} {
		p := s.passReader(s.onePool(), snapshot.Snapshot{})
		p.Name, p.Exclude = "jobs", true
		p.Mine = []store.Call{store.MineCall(g.incarnation, subscription.Whole("jobs"), c.epoch)}
		got, err := p.ReadPage(t.Context(), store.Page{}, 10)
		if !errors.Is(err, c.want) || err == nil && len(got.Rows) != 2 {
			t.Errorf("%s reads %d rows, %v; want %v", name, len(got.Rows), err, c.want)
		}
	}
	s.crash()
	p := s.passReader(s.onePool(), snapshot.Snapshot{})
	p.Name, p.Mine = "jobs", []store.Call{store.MineCall(g.incarnation, subscription.Whole("jobs"), epoch)}
	if _, err := p.ReadPage(t.Context(), store.Page{}, 10); !errors.Is(err, store.ErrLost) {
		t.Errorf("a relay without registration reads on: %v", err)
	}
}
