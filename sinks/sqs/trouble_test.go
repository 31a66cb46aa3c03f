package sqssink

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/amazontest"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(sinktest.Patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// What got no answer was not confirmed, though it is there: it comes again, with the same id. A FIFO queue has it once.
func TestLostConfirm(t *testing.T) {
	for queue, want := range map[string]int{"orders": 2, "orders.fifo": 1} {
		t.Run(queue, func(t *testing.T) {
			s := newScene(t, queue)
			sink := s.to(s.target(queue, ""))
			sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindAccepted)
			s.link.HalfOpen(linktest.ToClient)
			d := batchOf(1)[0]
			done := make(chan []error, 1)
			go func() { done <- s.deliver(sink, d) }()
			eventually(t, "it does not arrive", func() bool { return len(s.Taken()) == 2 })
			s.link.Down()
			sinktest.WantKinds(t, <-done, sinks.KindUnavailable)
			s.link.Up()
			sinktest.WantKinds(t, s.deliver(sink, d), sinks.KindAccepted)
			if got := s.received()[1:]; len(got) != want || got[0].MessageID != d.MessageID || got[len(got)-1].MessageID != d.MessageID {
				t.Errorf("received %v, want it %d times", got, want)
			}
		})
	}
}

// A request that was carried out and answered with an error has confirmed nothing.
func TestErrorAfterAll(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	s.Fail(func(action string, _ []string) *amazontest.Fault {
		if action != "SendMessageBatch" {
			return nil
		}
		return &amazontest.Fault{Status: 500, Code: "InternalError", Take: true}
	})
	sinktest.WantKinds(t, s.deliver(sink, batchOf(2)...), sinks.KindUnavailable, sinks.KindUnavailable)
	if len(s.Batches()) != 1 {
		t.Errorf("%d requests: the library has repeated it", len(s.Batches()))
	}
}

// A server that is silent is waited for as long as the timeout says; one that is slow has its time.
func TestSilentAndSlow(t *testing.T) {
	s := newScene(t, "orders")
	target := s.target("orders", "")
	target.Timeout = 300 * time.Millisecond
	short := s.to(target)
	s.link.Hang()
	start := time.Now()
	sinktest.WantText(t, s.deliver(short, batchOf(1)...)[0], sinks.KindUnavailable, "no answer in time")
	if d := time.Since(start); d < target.Timeout {
		t.Errorf("it waited for %v", d)
	}
	s.link.Up()
	long := s.to(s.target("orders", ""))
	if err := s.link.Slow(100*time.Millisecond, 0, 0); err != nil {
		t.Fatal(err)
	}
	sinktest.WantKinds(t, s.deliver(long, batchOf(2)...), sinks.KindAccepted, sinks.KindAccepted)
}

// A queue that is removed is misconfigured, and used again when it is there.
func TestQueueIsMissing(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindAccepted)
	s.Have("orders", false)
	for range 2 {
		sinktest.WantText(t, s.deliver(sink, batchOf(1)...)[0], sinks.KindMisconfigured, "create it")
	}
	s.Have("orders", true)
	sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindAccepted)
}

// Messages of a key on a FIFO queue are there in order and once, through cuts, half-open connections and errors after all.
func TestOrderThroughTrouble(t *testing.T) {
	s := newScene(t, "orders.fifo")
	target := s.target("orders.fifo", "")
	target.Timeout = 500 * time.Millisecond
	sink := s.to(target)
	var n atomic.Int64
	s.Fail(func(action string, _ []string) *amazontest.Fault {
		switch i := n.Add(1); {
		case action != "SendMessageBatch":
		case i%5 == 0:
			return &amazontest.Fault{Status: 503, Code: "ServiceUnavailable", Take: true}
		case i%7 == 0:
			return &amazontest.Fault{Code: "ThrottlingException"}
		}
		return nil
	})
	const keys, messages = 3, 30
	for i := range messages {
		pending := batchOf(keys)
		for k := range pending {
			pending[k].Key, pending[k].Payload = fmt.Sprintf("k%d", k), fmt.Appendf(nil, "%d", i)
		}
		if i%10 == 4 {
			s.link.Reset()
		}
		if i == 15 {
			s.link.HalfOpen(linktest.ToClient)
		}
		eventually(t, "it does not get through", func() bool {
			outcomes := s.deliver(sink, pending...)
			s.link.Up()
			var left []sinks.Delivery
			for j, err := range outcomes {
				if err != nil {
					left = append(left, pending[j])
				}
			}
			pending = left
			return len(pending) == 0
		})
	}
	next := map[string]int{}
	for _, r := range s.received() {
		if want := fmt.Sprint(next[r.Key]); string(r.Payload) != want {
			t.Fatalf("key %s got %s, want %s", r.Key, r.Payload, want)
		}
		next[r.Key]++
	}
	if len(next) != keys || next["k0"] != messages {
		t.Errorf("received %v of each key, want %d", next, messages)
	}
}

// An answer that never ends is read to a bound.
func TestEndlessAnswer(t *testing.T) {
	s := newScene(t, "orders")
	line := []byte(strings.Repeat("x", 64<<10))
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
	if kind, _ := sinks.Classify(s.deliver(s.to(s.target("orders", "")), batchOf(1)...)[0]); kind != sinks.KindUnavailable && kind != sinks.KindRetryable {
		t.Errorf("the outcome is %v", kind)
	}
}

// A server that dies in the middle of an answer has confirmed nothing, and is used again when it is back.
func TestKilledInTheMiddle(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindAccepted)
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buffer := make([]byte, 1<<20)
		if _, err := conn.Read(buffer); err == nil {
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 5000\r\n\r\n{\"Successful\": [{\"Id\": \"0\", \"MessageId\": \"m\"")) // it may be gone
		}
		conn.Close()
	}()
	s.link.Retarget(l.Addr().String())
	s.link.Reset()
	sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindUnavailable)
	l.Close()
	<-done
	s.link.Retarget(s.Listener.Addr().String())
	eventually(t, "it does not recover", func() bool { return s.deliver(sink, batchOf(1)...)[0] == nil })
}
