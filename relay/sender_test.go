package relay

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// sendTo makes relays deliver to a destination whose deliveries end one by one.
func sendTo(m *sinktest.Memory) func(*Config) {
	return func(c *Config) {
		c.Open = func(context.Context, subscription.Subscription) (sinks.Sink, error) { return m.Open(), nil }
	}
}

// A thousand slow jobs are all out at once, at the price of no goroutine each.
func TestThousandDeliveriesAtOnce(t *testing.T) {
	const jobs = 1000
	s := newScene(t)
	m := &sinktest.Memory{Lanes: jobs}
	s.subscribe("jobs", "{>}", "{}", "now")
	s.start(sendTo(m))
	s.Publish("job", "", "0")
	s.settledAll("jobs")
	m.Hang()
	before := runtime.NumGoroutine()
	s.bulk("job", jobs, 0)
	began := time.Now()
	eventually(t, "all are out", func() bool { return m.Out() == jobs })
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("out after %s, with %d MiB of heap in the whole test", time.Since(began), memory.HeapInuse>>20)
	if more := runtime.NumGoroutine() - before; more > jobs/10 { // other tests have some, too
		t.Errorf("%d goroutines more for %d deliveries", more, jobs)
	}
	m.Up()
	s.settledAll("jobs")
	if n := len(m.Received()); n != jobs+1 {
		t.Errorf("%d deliveries, want %d", n, jobs+1)
	}
}

// A slow delivery delays its key and nothing else, however few may be out.
func TestSlowDeliveryDelaysItsKeyAlone(t *testing.T) {
	s := newScene(t)
	m := &sinktest.Memory{Lanes: 2}
	letGo := m.Hold("slow")
	s.subscribe("jobs", "{>}", "{}", "now")
	s.start(sendTo(m))
	first := s.Publish("job", "slow", "0", "1", "2")
	for i := range 20 {
		s.Publish("job", fmt.Sprintf("quick-%d", i%3), "0")
	}
	s.Publish("job", "", "0", "1", "2")
	eventually(t, "all but the slow key's arrive", func() bool { return len(m.Received()) == 23 })
	if n := m.Out(); n != 1 {
		t.Errorf("%d of the slow key's messages are out, want one", n)
	}
	letGo()
	s.settledAll("jobs")
	var got []string
	for _, r := range m.Received() {
		if r.Key == "slow" {
			got = append(got, string(r.Payload))
		}
	}
	if fmt.Sprint(got) != "[0 1 2]" {
		t.Errorf("messages %v of the slow key, %d, came as %v", first, len(first), got)
	}
}

// A stop waits for what is out, as it does for batches, and nothing comes again.
func TestStopWaitsForDeliveriesOneByOne(t *testing.T) {
	s := newScene(t)
	m := &sinktest.Memory{Lanes: 50}
	m.Hang()
	s.subscribe("jobs", "{>}", "{}", "now")
	run := s.start(sendTo(m))
	s.bulk("job", 50, 0)
	eventually(t, "all are out", func() bool { return m.Out() == 50 })
	stopped := make(chan struct{})
	go func() {
		run.stop()
		close(stopped)
	}()
	m.Up()
	<-stopped
	s.start(sendTo(m))
	s.settledAll("jobs")
	if n := len(m.Received()); n != 50 {
		t.Errorf("%d deliveries, want 50", n)
	}
}

// One whose turn it is to be read by itself is sent when it has been.
func TestLargeMessageToASender(t *testing.T) {
	s := newScene(t)
	m := new(sinktest.Memory)
	s.subscribe("jobs", "{>}", "{}", "now")
	s.start(sendTo(m))
	s.Exec(`INSERT INTO postrider.outbox (topic, payload) VALUES ('job', to_jsonb(repeat('x', 3000000)))`)
	s.settledAll("jobs")
	if got := m.Received(); len(got) != 1 || len(got[0].Payload) != 3000002 {
		t.Errorf("%d deliveries arrived", len(got))
	}
}

// neglected is a sender that says what keeps its deliveries waiting.
type neglected struct {
	sinks.SinkSender
	says atomic.Pointer[string]
}

// Trouble implements sinks.Troubled.
func (n *neglected) Trouble() (string, time.Duration) { return *n.says.Load(), 10 * time.Millisecond }

// What a sink knows of deliveries that wait for nobody's failure is the subscription's trouble, also while nothing else happens.
func TestTroubleOfASinkShows(t *testing.T) {
	s := newScene(t)
	m := new(sinktest.Memory)
	m.Hang()
	n := &neglected{}
	say := func(text string) { n.says.Store(&text) }
	say("")
	s.subscribe("jobs", "{>}", "{}", "now")
	run := s.start(func(c *Config) {
		c.Open = func(context.Context, subscription.Subscription) (sinks.Sink, error) {
			n.SinkSender = m.Open()
			return n, nil
		}
	})
	s.Publish("job", "", "0")
	eventually(t, "it is out", func() bool { return m.Out() == 1 })
	shows := func(want string) {
		t.Helper()
		eventually(t, "the trouble is "+want, func() bool {
			return scalar[string](s.bench, "SELECT coalesce(trouble, '') FROM postrider.subscription_status WHERE name = 'jobs'") == want
		})
	}
	say("nobody asks")
	shows("nobody asks")
	say("")
	shows("")
	say("nobody asks again")
	shows("nobody asks again")
	say("")
	m.Up()
	s.settledAll("jobs")
	run.stop()
}
