package natstest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start starts servers with a stream S on s.>.
func start(t testing.TB, servers int) *Cluster {
	t.Helper()
	c, err := Start(limited(t), Options{Servers: servers, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	create(t, c)
	return c
}

func create(t testing.TB, c *Cluster) {
	t.Helper()
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Duplicates: time.Minute}
	for range 2 {
		if err := c.CreateStream(limited(t), cfg); err != nil {
			t.Fatal(err)
		}
	}
}

// publish publishes messages with the numbers from, from+1, … and waits until all are confirmed.
func publish(t testing.TB, c *Cluster, from, n int) {
	t.Helper()
	if err := flush(limited(t), c.conn); err != nil { // It may be reconnecting.
		t.Fatal(err)
	}
	var futures []jetstream.PubAckFuture
	for i := from; i < from+n; i++ {
		f, err := c.js.PublishMsgAsync(&nats.Msg{Subject: "s.x", Data: strconv.AppendInt(nil, int64(i), 10)}, jetstream.WithStallWait(patience))
		if err != nil {
			t.Fatal(err)
		}
		futures = append(futures, f)
	}
	for i, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			t.Fatalf("message %d: %v", from+i, err)
		case <-time.After(patience):
			t.Fatalf("message %d was not confirmed", from+i)
		}
	}
}

// wantNumbers reads the stream, which must hold 0, 1, … n-1.
func wantNumbers(t testing.TB, c *Cluster, n int) {
	t.Helper()
	i := 0
	err := c.ReadAll(limited(t), "S", func(m Message) {
		if string(m.Data) != strconv.Itoa(i) || m.Seq != uint64(i)+1 || m.Subject != "s.x" || m.Time.IsZero() {
			t.Fatalf("message %d is %+v", i, m)
		}
		i++
	})
	if err != nil || i != n {
		t.Fatalf("read %d messages, %v, want %d", i, err, n)
	}
}

// publishers publish with all their might; what they hold in the end is confirmed.
type publishers struct {
	stop      chan struct{}
	wg        sync.WaitGroup
	mu        sync.Mutex
	confirmed map[string]bool
}

func startPublishers(t testing.TB, c *Cluster) *publishers {
	t.Helper()
	p := &publishers{stop: make(chan struct{}), confirmed: map[string]bool{}}
	for i := range 4 {
		nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(pollEvery), nats.ReconnectBufSize(-1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		p.wg.Go(func() { p.run(js, i) })
	}
	return p
}

func (p *publishers) run(js jetstream.JetStream, i int) {
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		default:
		}
		futures, failed := map[string]jetstream.PubAckFuture{}, false
		for k := range 50 {
			id := fmt.Sprintf("%d-%d-%d", i, n, k)
			if f, err := js.PublishMsgAsync(&nats.Msg{Subject: "s.x", Data: []byte(id)}, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0)); err == nil {
				futures[id] = f
			} else {
				failed = true
			}
		}
		for id, f := range futures {
			select {
			case <-f.Ok():
				p.mu.Lock()
				p.confirmed[id] = true
				p.mu.Unlock()
			case <-f.Err():
				failed = true
			}
		}
		if failed {
			pause(context.Background())
		}
	}
}

// waitConfirmed waits until n more messages have been confirmed.
func (p *publishers) waitConfirmed(t testing.TB, n int) {
	t.Helper()
	begin := p.count()
	if err := poll(limited(t), func() error {
		if got := p.count() - begin; got < n {
			return fmt.Errorf("%d messages were confirmed, want %d", got, n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (p *publishers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.confirmed)
}

// end stops the publishers and checks that all that was confirmed is among what was read.
func (p *publishers) end(t testing.TB, read map[string]bool) {
	t.Helper()
	close(p.stop)
	p.wg.Wait()
	for id := range p.confirmed {
		if !read[id] {
			t.Errorf("%s was confirmed and not read", id)
		}
	}
	t.Logf("%d messages confirmed, %d read", len(p.confirmed), len(read))
}
