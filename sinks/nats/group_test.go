package natssink

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// many makes a batch that is large enough for groups.
func many(n int) []sinks.Delivery {
	batch := make([]sinks.Delivery, n)
	for i := range batch {
		batch[i] = sinktest.NewDelivery("a", fmt.Sprint(i))
	}
	return batch
}

// wantStored wants the stream to hold each of the messages once.
func wantStored(t *testing.T, stream jetstream.Stream, batch []sinks.Delivery) {
	t.Helper()
	got := map[string]int{}
	for _, m := range (&reader{t: t, stream: stream}).read() {
		got[m.MessageID]++
	}
	for i, d := range batch {
		if got[d.MessageID] != 1 {
			t.Errorf("message %d is in the stream %d times", i, got[d.MessageID])
		}
	}
	if len(got) != len(batch) {
		t.Errorf("%d messages are in the stream, want %d", len(got), len(batch))
	}
}

// tap counts how often each payload was published, and at how many subjects it is answered.
type tap struct {
	mu        sync.Mutex
	published map[string]int
	replies   map[string]bool
}

func newTap(t *testing.T, nc *nats.Conn) *tap {
	p := &tap{published: map[string]int{}, replies: map[string]bool{}}
	pretend(t, nc, "a", func(m *nats.Msg, _ func(to, what string)) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.published[string(m.Data)]++
		p.replies[m.Reply] = true
	})
	return p
}

// seen waits until so many publications came by, and returns the number of subjects to answer to.
func (p *tap) seen(t *testing.T, want int) (replies int) {
	t.Helper()
	for deadline := time.Now().Add(sinktest.Patience); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		n := 0
		for _, times := range p.published {
			n += times
		}
		replies = len(p.replies)
		p.mu.Unlock()
		if n == want {
			return replies
		}
		if n > want || time.Now().After(deadline) {
			t.Fatalf("%d publications, want %d", n, want)
		}
	}
}

func TestLargeBatchesShareSubjectsToAnswerTo(t *testing.T) {
	srv := startServer(t, nil)
	nc, js := client(t, srv)
	stream := addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})
	p := newTap(t, nc)
	s := open(t, Config{Servers: []string{srv.ClientURL()}})
	batch := many(5*groupSize + 7)
	sinktest.WantKinds(t, deliver(t, s, batch...), make([]sinks.Kind, len(batch))...)
	wantStored(t, stream, batch)
	if n := p.seen(t, len(batch)); n != 6 {
		t.Errorf("%d subjects to answer to, want 6", n)
	}
	// All are duplicates now: each is asked for by itself, and the stream keeps one copy.
	sinktest.WantKinds(t, deliver(t, s, batch...), make([]sinks.Kind, len(batch))...)
	wantStored(t, stream, batch)
	p.seen(t, 3*len(batch))
}

// One message that the stream refuses is found among those that share its subject to answer to.
func TestOneRefusedInAGroup(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	stream := addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}, MaxMsgSize: 300})
	s := open(t, Config{Servers: []string{srv.ClientURL()}})
	batch := many(3 * groupSize)
	for _, bad := range []int{0, groupSize + 5} {
		batch[bad].Message.Payload = slices.Repeat([]byte("x"), 400)
	}
	want := make([]sinks.Kind, len(batch))
	want[0], want[groupSize+5] = sinks.KindPermanent, sinks.KindPermanent
	sinktest.WantKinds(t, deliver(t, s, batch...), want...)
	good := slices.Delete(slices.Clone(batch), groupSize+5, groupSize+6)[1:]
	wantStored(t, stream, good)
}

// Answers that do not show that each message was stored settle none: not from two streams, not with one sequence for all, not with
// one of them missing.
func TestAnswersOfAGroupMustAddUp(t *testing.T) {
	srv := startServer(t, nil)
	nc, _ := client(t, srv)
	batch := many(2 * groupSize)
	for name, c := range map[string]struct {
		answer  func(n int, payload string) []string
		publish int        // in all
		want    sinks.Kind // of the first group
	}{
		"in order": {func(n int, _ string) []string { return []string{fmt.Sprintf(`{"stream":"PG","seq":%d}`, n)} }, len(batch), sinks.KindAccepted},
		"two streams": {func(n int, _ string) []string {
			return []string{fmt.Sprintf(`{"stream":"%s","seq":%d}`, []string{"PG", "QG"}[n%2], n)}
		}, 2 * len(batch), sinks.KindAccepted},
		"one sequence": {func(int, string) []string { return []string{ackGood} }, 2 * len(batch), sinks.KindAccepted},
		// Each of the first half is answered twice, so that the number of answers is right.
		"twice and not at all": {func(n int, payload string) []string {
			if i := slices.IndexFunc(batch, func(d sinks.Delivery) bool { return string(d.Payload) == payload }); n <= len(batch) && i%2 == 1 {
				return nil
			}
			if n > len(batch) {
				return []string{ackGood}
			}
			return []string{ackGood, ackGood}
		}, 2 * len(batch), sinks.KindAccepted},
		"one missing": {func(n int, payload string) []string {
			if payload == "3" {
				return nil
			}
			return []string{fmt.Sprintf(`{"stream":"PG","seq":%d}`, n)}
		}, len(batch), sinks.KindUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			sub, err := nc.Subscribe("a", func(m *nats.Msg) {
				n++
				for _, text := range c.answer(n, string(m.Data)) {
					if err := nc.Publish(m.Reply, []byte(text)); err != nil {
						t.Error(err)
					}
				}
			})
			if err == nil {
				err = nc.Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, Config{Servers: []string{srv.ClientURL()}, AckTimeout: 500 * time.Millisecond})
			want := make([]sinks.Kind, len(batch))
			for i := range groupSize {
				want[i] = c.want
			}
			sinktest.WantKinds(t, deliver(t, s, batch...), want...)
			if err := sub.Unsubscribe(); err != nil {
				t.Fatal(err)
			}
			if n != c.publish {
				t.Errorf("%d publications, want %d", n, c.publish)
			}
		})
	}
}

// Large batches name the stream that they expect until it has stored a message of the subject, and again when another one has.
func TestAnotherStreamTakesTheSubject(t *testing.T) {
	srv := startServer(t, nil)
	nc, js := client(t, srv)
	stream := addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})
	var published, naming atomic.Int64
	pretend(t, nc, "a", func(m *nats.Msg, _ func(to, what string)) {
		if m.Header.Get(jetstream.ExpectedStreamHeader) == "PG" {
			naming.Add(1)
		}
		published.Add(1)
	})
	s := open(t, Config{Servers: []string{srv.ClientURL()}, Stream: "PG"})
	const size = 3 * groupSize
	all := many(5 * size)
	// step delivers the next messages, which takes so many publications, some of which must name the stream.
	step := func(what string, n int, want sinks.Kind, wantPublished, wantNaming int64) {
		t.Helper()
		batch := all[:n]
		all = all[n:]
		published.Store(0)
		naming.Store(0)
		sinktest.WantKinds(t, deliver(t, s, batch...), slices.Repeat([]sinks.Kind{want}, n)...)
		for deadline := time.Now().Add(sinktest.Patience); published.Load() < wantPublished && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if p, n := published.Load(), naming.Load(); p != wantPublished || n != wantNaming {
			t.Errorf("%s: %d of %d publications name the stream, want %d of %d", what, n, p, wantNaming, wantPublished)
		}
	}
	step("first batch", size, sinks.KindAccepted, size, size)
	step("second batch", size, sinks.KindAccepted, size, 0)
	step("small batch", 5, sinks.KindAccepted, 5, 5)
	if _, err := js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: "PG", Subjects: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	other := addStream(t, js, jetstream.StreamConfig{Name: "PG2", Subjects: []string{"a"}})
	step("batch after a change", size, sinks.KindMisconfigured, 2*size, size)
	step("batch after the refusal", size, sinks.KindMisconfigured, 2*size, 2*size)
	for _, s := range []struct {
		stream jetstream.Stream
		want   uint64
	}{{stream, 2*size + 5}, {other, size}} {
		info, err := s.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs != s.want {
			t.Errorf("stream %s holds %d messages, want %d", info.Config.Name, info.State.Msgs, s.want)
		}
	}
}
