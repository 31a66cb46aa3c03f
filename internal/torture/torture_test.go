package torture

import (
	"cmp"
	"context"
	"testing"
	"time"
)

// round runs a short round and fails the test with every violation.
func round(t *testing.T, c Config) *Report {
	t.Helper()
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	if c.Duration == 0 {
		c.Duration = 4 * time.Second
	}
	c.Calm = cmp.Or(c.Calm, 3) // rounds run beside each other, and beside all other tests: mostly it counts what happens meanwhile, not how much of it there is
	c.Log = t.Output()
	var err error
	if c.Binary, err = program(relayRace); err != nil {
		t.Fatal(err)
	}
	r, err := Run(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(t.Output()); err != nil {
		t.Error(err)
	}
	if len(r.Violations) > 0 {
		t.Errorf("%d violations, see above", len(r.Violations))
	}
	return r
}

// Each way in which an endpoint can fail, while relays come and go as they should.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	var names []string
	for _, f := range hookFaults {
		names = append(names, f.Name)
	}
	round(t, Config{Follow: "stream", Relays: 1, NATSServers: 1, Faults: names, Duration: 14 * time.Second, Pause: 200 * time.Millisecond})
}

// A row that nobody can read, and a relay that is killed and has to pass it again.
func TestPoisonRow(t *testing.T) {
	t.Parallel()
	for _, follow := range []string{"stream", "timer"} {
		t.Run(follow, func(t *testing.T) {
			t.Parallel()
			c := Config{Follow: follow, Relays: 1, NATSServers: 1, Faults: []string{"poison-row", "kill"}, Duration: 8 * time.Second, Pause: 500 * time.Millisecond, Calm: 1}
			if follow == "timer" { // two relays are killed in turn while there is more to do than to deliver
				c.Relays, c.Faults = 2, append(c.Faults, "schedule", "operation", "priorities")
			}
			round(t, c)
		})
	}
}

// A NATS server that is restarted, a stream that is full, and one that is deleted.
func TestNATS(t *testing.T) {
	t.Parallel()
	round(t, Config{Follow: "timer", Relays: 2, NATSServers: 1, Faults: []string{"nats-restart", "nats-delete", "nats-full"},
		Duration: 8 * time.Second, Pause: 300 * time.Millisecond})
}

// A cluster that loses the leader of a stream, and its majority.
func TestNATSCluster(t *testing.T) {
	t.Parallel()
	round(t, Config{Follow: "stream", Relays: 1, NATSServers: 3, Faults: []string{"nats-leader", "nats-quorum", "nats-delete"},
		Duration: 10 * time.Second, Pause: 300 * time.Millisecond})
}

// Workers over HTTP and in SQL that are silent, deaf, cut off, slow, failing, hanging and killed, while their relay stops and starts.
func TestWorkers(t *testing.T) {
	t.Parallel()
	names := []string{"stop", "operation"}
	for _, f := range workerFaults {
		names = append(names, f.Name)
	}
	round(t, Config{Follow: "stream", Relays: 1, NATSServers: 1, Faults: names, Duration: 10 * time.Second, Pause: 400 * time.Millisecond})
}

// The database into which messages are copied crashes, loses sessions and answers, and relays are killed: each message is there once.
func TestCopies(t *testing.T) {
	t.Parallel()
	names := []string{"kill"}
	for _, f := range warehouseFaults {
		names = append(names, f.Name)
	}
	round(t, Config{Follow: "listen", Relays: 2, NATSServers: 1, Faults: names, Duration: 10 * time.Second, Pause: 300 * time.Millisecond})
}
