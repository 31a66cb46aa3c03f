package relay

import (
	"context"
	"testing"

	"github.com/postrider/postrider/relay/health"
)

// A relay that has lost its cursor, and does not know that yet, draws no conclusions from what it does not find: what another
// owner has made a dead letter goes on holding its key.
func TestLostCursorReleasesNoKey(t *testing.T) {
	s := newScene(t)
	holds := s.cast("holds", "{>}", `{"backoff_initial": "400ms", "backoff_max": "400ms", "max_attempts": 1000, "on_dead": "hold"}`)
	holds.plays(failing("bad", 100, errScene))
	var log gauges
	log.t = t
	s.play(func(c *Config) { c.Logger = newTestLogger(&log) })
	bad := s.Publish("bad", "k", `1`)
	s.shows("holds", "retrying", bad...)
	behind := s.Publish("good", "k", `2`)
	s.shows("holds", "held", behind...)

	// Nothing but the message's own row tells the relay about it: it cannot look at subscriptions.
	blocker, err := s.Admin.Begin(t.Context())
	mend(t, err)
	defer blocker.Rollback(context.WithoutCancel(t.Context()))
	_, err = blocker.Exec(t.Context(), "LOCK TABLE postrider.subscriptions IN ACCESS EXCLUSIVE MODE")
	mend(t, err)
	s.Exec("SET LOCAL session_replication_role = replica; " + // triggers look at subscriptions
		"UPDATE postrider.cursors SET owner = gen_random_uuid(), epoch = epoch + 1; UPDATE postrider.parked SET state = 'dead' WHERE state = 'retrying'")
	eventually(t, "the relay has looked for the message", func() bool { return log.logged(health.CannotLoad) > 0 })
	mend(t, blocker.Rollback(t.Context()))

	more := s.Publish("good", "", `3`) // by whoever owns the cursor next: the same relay, with another epoch
	holds.got(t, more)
	s.shows("holds", "held", behind...)
	if got := holds.accepted("k"); len(got) > 0 {
		t.Errorf("messages %v were delivered past the dead letter of their key", got)
	}
}
