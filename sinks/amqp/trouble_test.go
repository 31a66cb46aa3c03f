package amqpsink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/internal/rabbittest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func (b *broker) deliver(sink sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(b.t.Context(), sink, batch...)
}

func batchOf(topics ...string) (list []sinks.Delivery) {
	for i, topic := range topics {
		list = append(list, sinktest.NewDelivery(topic, fmt.Sprintf(`{"n": %d}`, i)))
	}
	return list
}

func keyed(key, payload string) sinks.Delivery {
	d := sinktest.NewDelivery("orders.created", payload)
	d.Key = key
	return d
}

// eventually delivers until it is accepted.
func (b *broker) eventually(sink sinks.Sink, d sinks.Delivery) {
	b.t.Helper()
	for deadline := time.Now().Add(rabbittest.Patience); ; {
		err := b.deliver(sink, d)[0]
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("it is not accepted: %v", err)
		}
	}
}

// payloads are those of a key, as they arrived.
func (b *broker) payloads(key string) (list []string) {
	for _, r := range b.received() {
		if r.Key == key {
			list = append(list, string(r.Payload))
		}
	}
	return list
}

// within is the broker's target with a time to wait for confirms.
func (b *broker) within(wait time.Duration, options string) sinks.Target {
	t := b.target(options)
	t.Timeout = wait
	return t
}

// What no queue takes waits, alone, and says why; where it may be dropped it is. It goes on once a queue is bound.
func TestUnroutable(t *testing.T) {
	b := newBroker(t, common(t))
	b.channel(func(c *amqp.Channel) error {
		return errors.Join(c.QueueUnbind(b.queue, "#", b.exchange, nil), c.QueueBind(b.queue, "p.a", b.exchange, false, nil))
	})
	sink := b.to(sinks.Target{URL: b.url("?prefix=p.&exchange=" + b.exchange)})
	got := b.deliver(sink, batchOf("a", "b", "a", "c")...)
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindMisconfigured, sinks.KindAccepted, sinks.KindMisconfigured)
	sinktest.WantText(t, got[1], sinks.KindMisconfigured, "no queue takes it", "NO_ROUTE", `"p.b"`)
	drops := b.to(sinks.Target{URL: b.url("?prefix=p.&exchange=" + b.exchange), Options: []byte(`{"unroutable": "drop"}`)})
	sinktest.WantKinds(t, b.deliver(drops, batchOf("a", "b")...), sinks.KindAccepted, sinks.KindAccepted)
	b.channel(func(c *amqp.Channel) error { return c.QueueBind(b.queue, "p.b", b.exchange, false, nil) })
	sinktest.WantKinds(t, b.deliver(sink, batchOf("b")...), sinks.KindAccepted)
	if n := len(b.received()); n != 4 {
		t.Errorf("%d messages, want 4", n)
	}
}

// A queue that is full, and is told to reject then, refuses the messages for which it has no room, and no others.
func TestFullQueueRefuses(t *testing.T) {
	b := newBroker(t, common(t))
	b.channel(func(c *amqp.Channel) error {
		_, err := c.QueueDelete(b.queue, false, false, false)
		return err
	})
	b.declare(amqp.Table{"x-max-length": int32(2), "x-overflow": "reject-publish"})
	sink := b.open("")
	got := b.deliver(sink, batchOf("a")...)
	sinktest.WantKinds(t, append(got, b.deliver(sink, batchOf("a")...)...), sinks.KindAccepted, sinks.KindAccepted)
	b.full(sink)
	if n := len(b.received()); n < 2 {
		t.Errorf("%d messages, want 2 at least", n)
	}
	sinktest.WantKinds(t, b.deliver(sink, batchOf("b")...), sinks.KindAccepted)
}

// full delivers until the queue, which may learn of its length a little later, refuses.
func (b *broker) full(sink sinks.Sink) {
	b.t.Helper()
	for deadline := time.Now().Add(sinktest.Patience); time.Now().Before(deadline); {
		if err := b.deliver(sink, batchOf("full")...)[0]; err != nil {
			if kind, _ := sinks.Classify(err); kind != sinks.KindRetryable || !strings.Contains(err.Error(), "nack") {
				b.t.Errorf("the outcome is %v: %v, want retryable", kind, err)
			}
			return
		}
	}
	b.t.Error("the queue does not refuse")
}

// The server closes the channel for what it does not like, and with it all that waits there: those who are not to blame arrive, the others are told of.
func TestOneErrorWithinABatch(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.open(`{"max_message_bytes": 8000000}`)
	batch := batchOf("a", "b", "c", "d", "e", "f")
	batch[1].Payload = []byte(strings.Repeat("x", 2_000_001))
	batch[3].Headers = []byte(`{"CC": "everybody"}`) // must be a list
	got := b.deliver(sink, batch...)
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted, sinks.KindAccepted)
	sinktest.WantText(t, got[1], sinks.KindPermanent, "larger than")
	sinktest.WantText(t, got[3], sinks.KindPermanent, "CC")
	arrived := map[string]bool{}
	for _, r := range b.received() {
		arrived[r.MessageID] = true
	}
	for i, d := range batch {
		if want := i != 1 && i != 3; arrived[d.MessageID] != want {
			t.Errorf("message %d has arrived: %t, want %t", i, !want, want)
		}
	}
	sinktest.WantKinds(t, b.deliver(sink, batch[1]), sinks.KindPermanent)
	sinktest.WantKinds(t, b.deliver(sink, batchOf("g")...), sinks.KindAccepted)
}

// What cannot be sent is known before: the connection, which frames that are too large would end, stays.
func TestTooLargeIsKnownBefore(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.open(`{"max_message_bytes": 1000}`)
	sinktest.WantKinds(t, b.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	before := b.link.Conns()
	batch := batchOf("a", "b", strings.Repeat("c", 256), "d", "e")
	batch[0].Payload = []byte(strings.Repeat("x", 1001))
	batch[1].Headers = fmt.Appendf(nil, `{"large": %q}`, strings.Repeat("x", 131_072))
	batch[3].Headers = fmt.Appendf(nil, `{%q: "x"}`, strings.Repeat("n", 256))
	got := b.deliver(sink, batch...)
	for i, words := range []string{"max_message_bytes is 1000", "frame_max lets 131072 pass", "routing key", "a name of 256 bytes"} {
		sinktest.WantText(t, got[i], sinks.KindPermanent, words)
	}
	sinktest.WantKinds(t, got[4:], sinks.KindAccepted)
	fits := sinktest.NewDelivery("fits", "1")
	fits.Headers = fmt.Appendf(nil, `{"large": %q}`, strings.Repeat("x", 130_000))
	sinktest.WantKinds(t, b.deliver(sink, fits), sinks.KindAccepted)
	if after := b.link.Conns(); after != before {
		t.Errorf("%d connections, and there were %d", after, before)
	}
}

// An exchange that is missing is said so, and made by nobody; when it is there, all goes on, also when it was removed and made again.
func TestExchangeIsMissing(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.open("")
	remove := func() {
		b.channel(func(c *amqp.Channel) error { return c.ExchangeDelete(b.exchange, false, false) })
	}
	for range 2 {
		remove()
		for _, err := range b.deliver(sink, batchOf("a", "b", "c")...) {
			sinktest.WantText(t, err, sinks.KindMisconfigured, "no exchange", "create the exchange")
		}
		b.declare(nil)
		sinktest.WantKinds(t, b.deliver(sink, batchOf("a", "b", "c")...), make([]sinks.Kind, 3)...)
	}
	if n := len(b.received()); n != 6 {
		t.Errorf("%d messages, want 6", n)
	}
}

// The library closes a channel a moment before it hands over why: what was published in between has the server's reason all the same.
func TestReasonOfAClosedChannel(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.open("")
	sinktest.WantKinds(t, b.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	l := deliverer(sink).shared.Last()
	c, err := l.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told := c.closes
	confirm, err := c.PublishWithDeferredConfirm("nowhere", "a", true, false, amqp.Publishing{})
	if err != nil {
		t.Fatal(err)
	}
	<-confirm.Done()
	reason := <-told
	synctest.Test(t, func(t *testing.T) {
		c.closes = make(chan *amqp.Error, 1)
		var got error
		go func() { got = c.ended(amqp.ErrClosed) }()
		synctest.Wait() // for it waits, or has given up
		c.closes <- reason
		synctest.Wait()
		if _, ok := got.(*refusal); !ok || !strings.Contains(got.Error(), "no exchange") {
			t.Errorf("the reason is %v, want that there is no exchange", got)
		}
	})
}

// What got no confirm was not confirmed, though it is there: it comes again, with the same id.
func TestLostConfirm(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.open("")
	sinktest.WantKinds(t, b.deliver(sink, batchOf("warm")...), sinks.KindAccepted)
	b.link.HalfOpen(linktest.ToClient)
	d := sinktest.NewDelivery("lost", "{}")
	done := make(chan []error, 1)
	go func() { done <- sinktest.Deliver(t.Context(), sink, d) }()
	for deadline := time.Now().Add(sinktest.Patience); len(b.received()) < 2; {
		if time.Now().After(deadline) {
			t.Fatal("it does not arrive")
		}
	}
	b.link.Down()
	sinktest.WantKinds(t, <-done, sinks.KindUnavailable)
	b.link.Up()
	sinktest.WantKinds(t, b.deliver(sink, d), sinks.KindAccepted)
	if got := b.received(); len(got) != 3 || got[1].MessageID != got[2].MessageID {
		t.Errorf("received %v", got)
	}
}

// A server that is silent is given up after the timeout, and a slow one is not.
func TestSilentAndSlow(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.to(b.within(time.Second, ""))
	sinktest.WantKinds(t, b.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	b.link.Hang()
	sinktest.WantText(t, b.deliver(sink, batchOf("b")...)[0], sinks.KindUnavailable, "no confirm in time")
	select {
	case <-deliverer(sink).shared.Last().done: // withdrawn, as far as that can be
	case <-time.After(5 * time.Second): // before it ends by itself
		t.Error("the connection lasts, with a message on its way that was given up")
	}
	b.link.Up()
	b.eventually(sink, sinktest.NewDelivery("c", "1"))
	slow := b.open("")
	sinktest.WantKinds(t, b.deliver(slow, batchOf("d")...), sinks.KindAccepted)
	if err := b.link.Slow(100*time.Millisecond, 0, 0); err != nil {
		t.Fatal(err)
	}
	sinktest.WantKinds(t, b.deliver(slow, batchOf("e", "f", "g")...), make([]sinks.Kind, 3)...)
}

// A write for which nobody makes room ends with the context.
func TestCancelledWhileWriting(t *testing.T) {
	b := newBroker(t, common(t))
	target := b.target(`{"max_message_bytes": 2000000}`)
	target.URL = "amqp://" + b.Addr() + "?exchange=" + b.exchange // nothing between that would hold bytes
	sink := b.to(target)
	sinktest.WantKinds(t, b.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	b.Signal(t, syscall.SIGSTOP)
	goOn := sync.OnceFunc(func() { b.Signal(t, syscall.SIGCONT) })
	defer goOn()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	batch := make([]sinks.Delivery, 40)
	for i := range batch {
		batch[i] = sinktest.NewDelivery("large", strings.Repeat("x", 1_900_000))
	}
	start := time.Now()
	for _, err := range sinktest.Deliver(ctx, sink, batch...) {
		if kind, _ := sinks.Classify(err); kind != sinks.KindUnavailable {
			t.Fatalf("the outcome is %v: %v", kind, err)
		}
	}
	if d := time.Since(start); d > DefaultTimeout/2 {
		t.Errorf("it took %v", d)
	}
	goOn()
	b.eventually(sink, sinktest.NewDelivery("b", "1"))
}

// What was given up during an alarm is in the server's hands: nothing is sent beside it until it was answered.
func TestNothingIsSentBesideWhatWasGivenUp(t *testing.T) {
	b := newBroker(t, common(t))
	sink := deliverer(b.to(b.within(3*time.Second, ""))) // it is given up only after the alarm
	sinktest.WantKinds(t, b.deliver(sink, keyed("k", "0")), sinks.KindAccepted)
	l := sink.shared.Last()
	b.link.HalfOpen(linktest.ToClient)
	given := make(chan []error, 1)
	go func() { given <- sinktest.Deliver(t.Context(), sink, keyed("k", "1")) }()
	for deadline := time.Now().Add(sinktest.Patience); len(b.received()) < 2; {
		if time.Now().After(deadline) {
			t.Fatal("the message did not arrive")
		}
	}
	l.sound(amqp.Blocking{Active: true, Reason: "a test"})
	outcome := (<-given)[0]
	if l.Gone() {
		t.Fatalf("the connection was given up in spite of the alarm: %v", outcome)
	}
	sinktest.WantText(t, outcome, sinks.KindUnavailable, "it has an alarm (a test)")
	l.sound(amqp.Blocking{})
	sinktest.WantText(t, b.deliver(sink, keyed("k", "2"))[0], sinks.KindUnavailable, "have no confirm yet")
	b.link.Up()
	b.eventually(sink, keyed("k", "3"))
	if got := b.payloads("k"); !slices.Equal(got, []string{"0", "1", "3"}) {
		t.Errorf("the queue has got %q", got)
	}
}

// While the server has an alarm nothing is accepted, all waits are bounded, and the reason shows. When it is over, what was on its way comes before
// what is sent anew.
func TestMemoryAlarm(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.to(b.within(500*time.Millisecond, ""))
	sinktest.WantKinds(t, b.deliver(sink, keyed("k", "0")), sinks.KindAccepted)
	b.Ctl(t, "set_vm_memory_high_watermark", "absolute", "1000000")
	over := func() { b.Ctl(t, "set_vm_memory_high_watermark", "absolute", "2GB") }
	defer func() { over() }()
	first := keyed("k", "1")
	deadline := time.Now().Add(sinktest.Patience)
	for n := 0; ; n++ { // the server looks at its memory now and then
		err := b.deliver(sink, first)[0]
		if err == nil && time.Now().Before(deadline) {
			continue
		}
		sinktest.WantText(t, err, sinks.KindUnavailable, "it has an alarm")
		break
	}
	conns := b.link.Conns()
	for range 3 {
		sinktest.WantText(t, b.deliver(sink, first)[0], sinks.KindUnavailable, "it has an alarm")
	}
	if n := b.link.Conns(); n != conns || conns != 1 {
		t.Errorf("%d connections, and there were %d: one has to last", n, conns)
	}
	over()
	over = func() {}
	b.eventually(sink, first)
	sinktest.WantKinds(t, b.deliver(sink, keyed("k", "2")), sinks.KindAccepted)
	if got := slices.Compact(b.payloads("k")); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the queue has got %q", got)
	}
}

// The order within each key outlives what networks do. What is accepted is there.
func TestOrderThroughTrouble(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.to(b.within(300*time.Millisecond, ""))
	const keys, rounds = 8, 9
	var over atomic.Bool
	var accepted [keys]int
	var all atomic.Int64
	var workers sync.WaitGroup
	for key := range accepted {
		workers.Go(func() {
			for n := 0; !over.Load(); n++ {
				d := keyed("k"+strconv.Itoa(key), strconv.Itoa(n))
				for ctx := t.Context(); ctx.Err() == nil && sinktest.Deliver(ctx, sink, d)[0] != nil; { // as the relay does
				}
				accepted[key]++
				all.Add(1)
			}
		})
	}
	for n := range rounds {
		switch n % 3 {
		case 0:
			b.link.Reset()
		case 1:
			b.link.Hang()
		case 2:
			b.link.HalfOpen(linktest.ToClient)
		}
		time.Sleep(20 * time.Millisecond) // as long as the trouble lasts
		b.link.Up()
		for before := all.Load(); all.Load() < before+2*keys && t.Context().Err() == nil; {
			time.Sleep(time.Millisecond)
		}
	}
	over.Store(true)
	workers.Wait()
	byKey := map[string][]string{}
	for _, r := range b.received() {
		byKey[r.Key] = append(byKey[r.Key], string(r.Payload))
	}
	for key, n := range accepted {
		var want []string
		for i := range n {
			want = append(want, strconv.Itoa(i))
		}
		if got := slices.Compact(byKey["k"+strconv.Itoa(key)]); !slices.Equal(got, want) {
			t.Errorf("key %d: %d messages were accepted, and it holds %q", key, n, got)
		}
	}
}

// A server that is killed in the middle and started again has all that it has confirmed, and gets the rest.
func TestKilledServer(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.open("")
	var accepted atomic.Int64
	var last string
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			last = strconv.Itoa(n)
			if sinktest.Deliver(t.Context(), sink, keyed("k", last))[0] != nil {
				return
			}
			accepted.Add(1)
		}
	}()
	for accepted.Load() < 50 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	b.Kill()
	<-stopped
	sinktest.WantKinds(t, b.deliver(sink, keyed("k", last)), sinks.KindUnavailable)
	sinktest.WantText(t, b.deliver(sink, keyed("k", last))[0], sinks.KindUnavailable, "127.0.0.1")
	if err := b.Restart(); err != nil {
		t.Fatal(err)
	}
	b.eventually(sink, keyed("k", last))
	var want []string
	for n := range accepted.Load() + 1 {
		want = append(want, strconv.Itoa(int(n)))
	}
	if got := slices.Compact(b.payloads("k")); !slices.Equal(got, want) {
		t.Errorf("%d messages in another order or number than %d", len(got), len(want))
	}
}

func deliverer(s sinks.Sink) *sink { return s.(*sink) }
