package torture

import (
	"testing"
	"time"
)

// each is a round with these faults.
func each(t *testing.T, c Config, faults ...string) *Report {
	t.Helper()
	t.Parallel()
	c.Faults, c.NATSServers = faults, 1
	c.Pause, c.Duration = 500*time.Millisecond, 2*time.Second
	r := round(t, c)
	if len(r.Faults) < len(faults) {
		t.Errorf("only %v were injected, of %q", r.Faults, faults)
	}
	return r
}

// What spares relays and their memory excuses no delivery that is repeated, as long as nobody takes over.
func TestRestarts(t *testing.T) {
	each(t, Config{Follow: "listen", Relays: 1}, "restart", "terminate-all", "cut")
}
func TestSessions(t *testing.T) {
	each(t, Config{Follow: "stream", Relays: 1}, "terminate", "publication", "reset", "halfopen")
}

// Nobody may take over only because the network is slow, or a transaction old.
func TestSlow(t *testing.T) { each(t, Config{Follow: "timer", Relays: 2}, "slow", "old") }

// A server that crashes, behind a pooler in transaction mode.
func TestPooler(t *testing.T) { each(t, Config{Follow: "pooler", Relays: 2}, "crash") }

// A primary that is lost, and faults of the one that replaces it, or of itself before.
func TestPromote(t *testing.T) {
	r := each(t, Config{Follow: "stream", Relays: 2}, "promote", "crash", "sync")
	if r.Vanished == 0 {
		t.Error("the standby was not behind: this proves less than it should")
	}
}

// To snapshots from before the crash, the next messages look settled.
func TestReusedIDs(t *testing.T) {
	r := each(t, Config{Follow: "stream", Relays: 1}, "reuse")
	if r.Reused == 0 {
		t.Error("no transaction id was handed out again: this proves nothing")
	}
}
