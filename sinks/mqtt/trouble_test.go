package mqttsink

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mochipackets "github.com/mochi-mqtt/server/v2/packets"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func deliverer(s sinks.Sink) *sink { return s.(*sink) }

func readerOf(text []byte) *link { return &link{in: bufio.NewReader(bytes.NewReader(text))} }

func (l *link) unanswered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// within is the broker's target with a time to wait for answers.
func (b *broker) within(wait time.Duration) sinks.Target {
	t := b.target("")
	t.Timeout = wait
	return t
}

// payloads are those of a key, as they arrived, without repeats next to each other.
func (b *broker) payloads(key string) (list []string) {
	for _, r := range b.received() {
		if r.Key == key {
			list = append(list, string(r.Payload))
		}
	}
	return slices.Compact(list)
}

func numbers(n int) (list []string) {
	for i := range n {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

// What got no answer was not confirmed, though it is there: it comes again, with the same id.
func TestLostAnswer(t *testing.T) {
	b := startBroker(t).listening()
	sink := b.open("")
	sinktest.WantKinds(t, deliver(t, sink, batchOf("warm")...), sinks.KindAccepted)
	b.link.HalfOpen(linktest.ToClient)
	d := sinktest.NewDelivery("lost", "{}")
	done := make(chan []error, 1)
	go func() { done <- sinktest.Deliver(t.Context(), sink, d) }()
	for deadline := time.Now().Add(patience); len(b.received()) < 2; {
		if time.Now().After(deadline) {
			t.Fatal("it does not arrive")
		}
	}
	b.link.Down()
	sinktest.WantKinds(t, <-done, sinks.KindUnavailable)
	b.link.Up()
	sinktest.WantKinds(t, deliver(t, sink, d), sinks.KindAccepted)
	if got := b.received(); len(got) != 3 || got[1].MessageID != got[2].MessageID {
		t.Errorf("received %v", got)
	}
}

// A broker that is silent is given up after the timeout, and a slow one is not.
func TestSilentAndSlow(t *testing.T) {
	b := startBroker(t).listening()
	sink := to(t, b.within(time.Second))
	sinktest.WantKinds(t, deliver(t, sink, batchOf("a")...), sinks.KindAccepted)
	b.link.Hang()
	sinktest.WantText(t, deliver(t, sink, batchOf("b")...)[0], sinks.KindUnavailable, "no answer in time")
	select {
	case <-deliverer(sink).shared.Last().done: // withdrawn, as far as that can be
	case <-time.After(5 * time.Second): // before it ends by itself
		t.Error("the connection lasts, with a message on its way that was given up")
	}
	b.link.Up()
	eventually(t, sink, sinktest.NewDelivery("c", "1"))
	slow := b.open("")
	sinktest.WantKinds(t, deliver(t, slow, batchOf("d")...), sinks.KindAccepted)
	if err := b.link.Slow(100*time.Millisecond, 0, 0); err != nil {
		t.Fatal(err)
	}
	sinktest.WantKinds(t, deliver(t, slow, batchOf("e", "f", "g")...), make([]sinks.Kind, 3)...)
}

// A write for which nobody makes room ends with the context.
func TestCancelledWhileWriting(t *testing.T) {
	b := startBroker(t).listening()
	target := b.target("")
	target.URL = "mqtt://" + b.Addr() // nothing between that would hold bytes
	sink := to(t, target)
	sinktest.WantKinds(t, deliver(t, sink, batchOf("a")...), sinks.KindAccepted)
	signal := func(s os.Signal) {
		if err := b.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	goOn := sync.OnceFunc(func() { signal(syscall.SIGCONT) })
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
	eventually(t, sink, sinktest.NewDelivery("b", "1"))
}

// The order within each key outlives what networks do. What is accepted is there.
func TestOrderThroughTrouble(t *testing.T) {
	b := startBroker(t).listening()
	sink := to(t, b.within(300*time.Millisecond))
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
		if got := slices.Compact(byKey["k"+strconv.Itoa(key)]); !slices.Equal(got, numbers(n)) {
			t.Errorf("key %d: %d messages were accepted, and it holds %q", key, n, got)
		}
	}
}

// A broker that is killed in the middle and started again gets the rest, in order.
func TestKilledBroker(t *testing.T) {
	b := startBroker(t).listening()
	sink := b.open(`{"unmatched": "drop"}`)
	var accepted atomic.Int64
	last := 0
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for ; sinktest.Deliver(t.Context(), sink, keyed("k", strconv.Itoa(last)))[0] == nil; last++ {
			accepted.Add(1)
		}
	}()
	for accepted.Load() < 50 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	b.Kill()
	<-stopped
	sinktest.WantKinds(t, deliver(t, sink, keyed("k", strconv.Itoa(last))), sinks.KindUnavailable)
	b.restart()
	b.listening()
	for n := last; n < last+3; n++ {
		eventually(t, sink, keyed("k", strconv.Itoa(n)))
	}
	if got := b.payloads("k"); !slices.Equal(got, numbers(last + 3)[last:]) {
		t.Errorf("after the restart %q has arrived, want 3 from %d on", got, last)
	}
}

// What somebody has to change is said so, by deliveries and by the doctor alike, and without the password.
func TestSetup(t *testing.T) {
	t.Setenv("POSTRIDER_SECRET_R", "hunter22")
	t.Setenv("POSTRIDER_SECRET_W", "wrong-one")
	b := startBroker(t, "allow_anonymous false", "password_file DIR/users", "acl_file DIR/acl")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", b.file("users"), "joe", "hunter22").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b.write("acl", "user joe\ntopic write mine/#\n")
	b.Kill()
	b.restart()
	right := `"user": "joe", "password": "env:POSTRIDER_SECRET_R"`
	for _, c := range []struct{ options, words string }{
		{`{"user": "joe", "password": "env:POSTRIDER_SECRET_W"}`, "not authorised"},
		{``, "not authorised"},
		{`{"guard": {"deny": ["127.0.0.0/8"]}}`, "options.guard.allow"},
	} {
		for _, err := range deliver(t, b.open(c.options), batchOf("mine.a", "mine.b")...) {
			sinktest.WantText(t, err, sinks.KindMisconfigured, c.words)
			if strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), "wrong-one") {
				t.Errorf("the reason shows the password: %v", err)
			}
		}
		if unfit := examined(t, b.target(c.options)); unfit == nil || !strings.Contains(unfit.Text, c.words) || unfit.Remedy == "" {
			t.Errorf("%s: examined: %+v, want %q", c.options, unfit, c.words)
		}
	}
	got := deliver(t, b.open(`{"unmatched": "drop", `+right+`}`), batchOf("mine.a", "theirs.b", "mine.c")...)
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindMisconfigured, sinks.KindAccepted)
	sinktest.WantText(t, got[1], sinks.KindMisconfigured, "not authorised", "0x87")
	if unfit := examined(t, b.target(`{`+right+`}`)); unfit != nil {
		t.Errorf("examined: %v", unfit)
	}
	b.link.Down()
	if err := Destination.Examine(t.Context(), b.target("")); err == nil {
		t.Error("what cannot be reached has nothing against it")
	} else if kind, _ := sinks.Classify(err); kind != sinks.KindUnavailable {
		t.Errorf("what cannot be reached: %v", err)
	}
}

// Two with one client id are told so. The doctor takes nobody's session over.
func TestSessionTakenOver(t *testing.T) {
	b := startBroker(t).listening()
	mine, other := b.open(`{"client_id": "same"}`), b.open(`{"client_id": "same"}`)
	sinktest.WantKinds(t, deliver(t, mine, batchOf("a")...), sinks.KindAccepted)
	l := deliverer(mine).shared.Last()
	if unfit := examined(t, b.target(`{"client_id": "same"}`)); unfit != nil || l.Gone() {
		t.Errorf("examined: %v, and the session has ended: %t", unfit, l.Gone())
	}
	sinktest.WantKinds(t, deliver(t, other, batchOf("c")...), sinks.KindAccepted)
	select {
	case <-l.done:
		sinktest.WantText(t, outcomeOf(l.err), sinks.KindUnavailable, "another client may have the same client_id") // this broker does not say so
	case <-time.After(patience):
		t.Error("the session lasts")
	}
	sinktest.WantKinds(t, deliver(t, mine, batchOf("d")...), sinks.KindAccepted)
	// Without a client id of the subscription's own nobody takes anything over.
	first, second := b.open(""), b.open("")
	sinktest.WantKinds(t, deliver(t, first, batchOf("e")...), sinks.KindAccepted)
	sinktest.WantKinds(t, deliver(t, second, batchOf("e")...), sinks.KindAccepted)
	if deliverer(first).shared.Last().Gone() {
		t.Error("one relay has taken over another's session")
	}
	// A broker that says so is heard.
	target := startSaying(t, map[string]mochipackets.Code{"silence": mochipackets.ErrRejectPacket}, nil)
	target.Options = []byte(`{"client_id": "same"}`)
	mine = to(t, target)
	sinktest.WantKinds(t, deliver(t, mine, batchOf("a")...), sinks.KindAccepted)
	done := make(chan []error, 1)
	go func() { done <- sinktest.Deliver(t.Context(), mine, batchOf("silence", "silence")...) }()
	for deadline := time.Now().Add(patience); deliverer(mine).shared.Last().unanswered() < 2 && time.Now().Before(deadline); {
	}
	sinktest.WantKinds(t, deliver(t, to(t, target), batchOf("c")...), sinks.KindAccepted)
	for _, err := range <-done {
		sinktest.WantText(t, err, sinks.KindMisconfigured, "the session was taken over", "0x8E")
	}
}

// A broker's own bound that it does not announce is that message's alone.
func TestUnannouncedLimit(t *testing.T) {
	b := startBroker(t, "message_size_limit 1000").listening()
	got := deliver(t, b.open(""), sinktest.NewDelivery("a", "1"), sinktest.NewDelivery("a", strings.Repeat("x", 1001)), sinktest.NewDelivery("a", "3"))
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
	sinktest.WantText(t, got[1], sinks.KindPermanent, "packet too large (0x95)")
	// This broker answers, and then ends the connection: who comes next does not pay for that.
	sink := b.open("")
	for range 10 {
		sinktest.WantKinds(t, deliver(t, sink, sinktest.NewDelivery("a", strings.Repeat("x", 1001))), sinks.KindPermanent)
		sinktest.WantKinds(t, deliver(t, sink, batchOf("a")...), sinks.KindAccepted)
	}
}

// TLS trusts whom it is told to, and shows who we are.
func TestTLS(t *testing.T) {
	b := startBroker(t)
	b.certify()
	b.Kill()
	conf, err := os.ReadFile(b.file("conf"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("conf", string(conf)+fmt.Sprintf("listener %s 127.0.0.1\ncafile %[2]s/ca.pem\ncertfile %[2]s/cert.pem\nkeyfile %[2]s/key.pem\nrequire_certificate true\n", b.tlsPort, b.dir))
	b.restart()
	b.listening()
	own := fmt.Sprintf(`"cert": %q, "key": %q`, b.file("cert.pem"), b.file("key.pem"))
	for _, c := range []struct {
		options string
		kind    sinks.Kind
		words   string
	}{
		{fmt.Sprintf(`{"tls": {"ca": %q, %s}}`, b.file("ca.pem"), own), sinks.KindAccepted, ""},
		{fmt.Sprintf(`{"tls": {"ca": %q, %s, "min_version": "1.3"}}`, b.file("ca.pem"), own), sinks.KindAccepted, ""},
		{fmt.Sprintf(`{"tls": {"ca": %q}}`, b.file("ca.pem")), sinks.KindMisconfigured, "does not accept our certificate"},
		{`{"tls": {` + own + `}}`, sinks.KindMisconfigured, "certificate"},
		{fmt.Sprintf(`{"tls": {"ca": %q, "server_name": "other.example", %s}}`, b.file("ca.pem"), own), sinks.KindMisconfigured, "other.example"},
		{`{"tls": {"ca": "/nowhere"}}`, sinks.KindMisconfigured, "tls.ca"},
	} {
		got := deliver(t, to(t, sinks.Target{URL: "mqtts://localhost:" + b.tlsPort, Options: []byte(c.options)}), batchOf("a")...)[0]
		if c.kind == sinks.KindAccepted {
			sinktest.WantKinds(t, []error{got}, c.kind)
			continue
		}
		if kind, _ := sinks.Classify(got); kind == sinks.KindUnavailable && strings.Contains(got.Error(), "connection reset") {
			continue // it overtakes the reason
		}
		sinktest.WantText(t, got, c.kind, c.words)
	}
}

// The first broker that answers is taken; those that do not delay it and no more.
func TestSeveralBrokers(t *testing.T) {
	b := startBroker(t).listening()
	nobody := freePorts(t, 1)[0]
	for range 2 {
		sinktest.WantKinds(t, deliver(t, to(t, sinks.Target{URL: "mqtt://127.0.0.1:" + nobody + "," + b.link.Addr()}), batchOf("a")...), sinks.KindAccepted)
	}
}
