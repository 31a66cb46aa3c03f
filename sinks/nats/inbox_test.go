package natssink

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

const (
	ackGood = `{"stream":"PG","seq":7}`
	ackFull = `{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"PG","seq":0}`
)

// pretend subscribes to a subject that no stream captures, and answers in a stream's place.
func pretend(t *testing.T, nc *nats.Conn, subject string, answer func(m *nats.Msg, say func(to, what string))) {
	t.Helper()
	say := func(to, what string) {
		if err := nc.Publish(to, []byte(what)); err != nil {
			t.Error(err)
		}
	}
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) { answer(m, say) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// The address of an earlier message is dead, be it confirmed or given up.
func TestAnswerToAnEarlierMessageSettlesNothing(t *testing.T) {
	srv := startServer(t, nil)
	nc, _ := client(t, srv)
	var earlier []string
	pretend(t, nc, "a", func(m *nats.Msg, say func(to, what string)) {
		for _, to := range earlier {
			say(to, ackGood)
		}
		earlier = append(earlier, m.Reply)
		switch string(m.Data) {
		case "good":
			say(m.Reply, ackGood)
			say(m.Reply, ackGood)
		case "full":
			say(m.Reply, ackFull)
		}
	})
	s := open(t, Config{Servers: []string{srv.ClientURL()}, AckTimeout: 500 * time.Millisecond})
	for range 3 {
		one := func(payload string) []error { return deliver(t, s, sinktest.NewDelivery("a", payload)) }
		sinktest.WantKinds(t, one("good"), sinks.KindAccepted)
		wantReason(t, one("full")[0], sinks.KindUnavailable, "maximum messages exceeded")
		wantReason(t, one("silent")[0], sinks.KindUnavailable, "timeout")
	}
	if s.link.cur.nc.NumSubscriptions() != 0 {
		t.Errorf("%d subscriptions are left of batches that were given up", s.link.cur.nc.NumSubscriptions())
	}
}

// A message is settled once: the second answer to one does not stand for another of its batch.
func TestFirstAnswerCounts(t *testing.T) {
	srv := startServer(t, nil)
	nc, _ := client(t, srv)
	pretend(t, nc, "a", func(m *nats.Msg, say func(to, what string)) {
		switch string(m.Data) {
		case "good, then full":
			say(m.Reply, ackGood)
			say(m.Reply, ackFull)
		case "full, then good":
			say(m.Reply, ackFull)
			say(m.Reply, ackGood)
		case "nonsense":
			say(m.Reply+"x", ackGood)
			say(m.Reply, "hello")
		case "unnumbered":
			say(m.Reply[:len(m.Reply)-1]+"18446744073709551615", ackGood)
			say(m.Reply[:len(m.Reply)-1]+"99999999999999999999999", ackGood)
			say(m.Reply+"0", ackGood) // A number that comes later.
		}
	})
	s := open(t, Config{Servers: []string{srv.ClientURL()}, AckTimeout: 500 * time.Millisecond})
	out := deliver(t, s, sinktest.NewDelivery("a", "good, then full"), sinktest.NewDelivery("a", "full, then good"),
		sinktest.NewDelivery("a", "nonsense"), sinktest.NewDelivery("a", "unnumbered"))
	sinktest.WantKinds(t, out, sinks.KindAccepted, sinks.KindUnavailable, sinks.KindUnavailable, sinks.KindUnavailable)
	wantReason(t, out[1], sinks.KindUnavailable, "maximum messages exceeded")
	wantReason(t, out[2], sinks.KindUnavailable, "invalid jetstream publish response")
	wantReason(t, out[3], sinks.KindUnavailable, "timeout")
}

// Lanes are used again, by batches of any size, and do not pile up.
func TestLanesAreUsedAgain(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})
	s := open(t, Config{Servers: []string{srv.ClientURL()}, Batch: 4})
	for _, size := range []int{1, 4, 3, 9, 2, 9, 1} {
		batch := make([]sinks.Delivery, size)
		for i := range batch {
			batch[i] = sinktest.NewDelivery("a", "1")
		}
		sinktest.WantKinds(t, deliver(t, s, batch...), make([]sinks.Kind, size)...)
		if n := s.link.cur.nc.NumSubscriptions(); n != 1 {
			t.Fatalf("%d subscriptions after one batch at a time, want 1", n)
		}
	}
	if l := s.link.cur.idle[0]; l.outcomes != nil || l.msg.Data != nil || l.id[0] != "" {
		t.Error("an idle inbox holds on to its last batch")
	}
}

// Batches that are given up again and again, among others that are not, leave nothing for each other.
func TestGivenUpAmongOthers(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	r := &reader{t: t, stream: addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})}
	s := open(t, Config{Servers: []string{srv.ClientURL()}})
	var mu sync.Mutex
	accepted := map[string]bool{}
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() {
			for round := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				batch := make([]sinks.Delivery, 1+round)
				for i := range batch {
					batch[i] = sinktest.NewDelivery("a", fmt.Sprint(lane, round, i))
				}
				hurried := round%3 == lane%3
				if hurried {
					time.AfterFunc(time.Duration(round)*20*time.Microsecond, cancel)
				}
				out := sinktest.Deliver(ctx, s, batch...)
				cancel()
				mu.Lock()
				for i, err := range out {
					if err == nil {
						accepted[batch[i].MessageID] = true
					} else if !hurried {
						t.Error(err)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, m := range r.read() {
		delete(accepted, m.MessageID)
	}
	if len(accepted) > 0 {
		t.Errorf("%d messages were accepted and did not arrive", len(accepted))
	}
}
