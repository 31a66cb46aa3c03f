package kafkasink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

var produces = []kmsg.Key{kmsg.Produce}

// eventually delivers again and again until it is accepted.
func eventually(t *testing.T, s sinks.Sink, d sinks.Delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*sinktest.Patience)
	defer cancel()
	for {
		err := sinktest.Deliver(ctx, s, d)[0]
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("it was not accepted in time: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// within is a target whose acknowledgements are waited for no longer than that.
func (k *cluster) within(timeout time.Duration) sinks.Target {
	target := k.target("{}")
	target.Timeout = timeout
	return target
}

// A message whose acknowledgement was lost is not sent again while its record is on its way: it is stored once, whatever is asked meanwhile.
func TestLostAcknowledgement(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.within(300*time.Millisecond))
	eventually(t, s, keyed("a", "0"))
	k.link.HalfOpen(linktest.ToClient)
	stored := k.Fault(kfake.Fault{Keys: produces, Observe: true, Count: -1})
	d := keyed("a", "1")
	for range 3 {
		wantReason(t, deliver(t, s, d)[0], sinks.KindUnavailable, "no acknowledgement within 300ms; it may still come")
	}
	if err := stored.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	k.link.Down()
	k.link.Up()
	eventually(t, s, d)
	eventually(t, s, keyed("a", "2"))
	if got := k.reader(t).payloads("a"); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("the topic holds %q", got)
	}
}

// What a Deliver has left behind and brokers have stored meanwhile is accepted when it is delivered again, without being sent.
func TestAcknowledgementThatCameLate(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.within(300*time.Millisecond))
	eventually(t, s, keyed("a", "0"))
	k.link.Hang()
	d := keyed("a", "1")
	sinktest.WantKinds(t, deliver(t, s, d), sinks.KindUnavailable)
	k.link.Up()
	if err := s.client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := k.Fault(kfake.Fault{Keys: produces, Observe: true, Count: -1})
	sinktest.WantKinds(t, deliver(t, s, d), sinks.KindAccepted)
	if n := sent.Hits(); n != 0 || len(s.left.behind) != 0 || s.left.stored != 0 {
		t.Errorf("%d requests, left behind: %v, %d of them stored; want none", n, s.left.behind, s.left.stored)
	}
	if got := k.reader(t).payloads("a"); !slices.Equal(got, []string{"0", "1"}) {
		t.Errorf("the topic holds %q", got)
	}
}

// Errors that may pass are waited for, for a finite time; those that somebody has to mend are told apart.
func TestErrorsOfBrokers(t *testing.T) {
	for _, c := range []struct {
		err   *kerr.Error
		count int // of answers
		kind  sinks.Kind
		text  string
	}{
		{kerr.NotEnoughReplicas, 2, sinks.KindAccepted, ""},
		{kerr.NotEnoughReplicasAfterAppend, 2, sinks.KindAccepted, ""},
		{kerr.RequestTimedOut, 2, sinks.KindAccepted, ""},
		{kerr.NotLeaderForPartition, 3, sinks.KindAccepted, ""},
		{kerr.ThrottlingQuotaExceeded, 2, sinks.KindAccepted, ""},
		{kerr.NotEnoughReplicas, -1, sinks.KindUnavailable, "no acknowledgement"},
		{kerr.NotEnoughReplicasAfterAppend, -1, sinks.KindUnavailable, "no acknowledgement"},
		{kerr.ThrottlingQuotaExceeded, -1, sinks.KindUnavailable, "no acknowledgement"},
		{kerr.KafkaStorageError, -1, sinks.KindUnavailable, "no acknowledgement"},
		{kerr.UnknownServerError, -1, sinks.KindUnavailable, "UNKNOWN_SERVER_ERROR"},
		{kerr.OutOfOrderSequenceNumber, 1, sinks.KindAccepted, ""},
		{kerr.TopicAuthorizationFailed, -1, sinks.KindMisconfigured, "allow it WRITE and DESCRIBE"},
		{kerr.ClusterAuthorizationFailed, -1, sinks.KindMisconfigured, "IDEMPOTENT_WRITE"},
		{kerr.UnsupportedCompressionType, -1, sinks.KindMisconfigured, "option compression"},
		{kerr.PolicyViolation, -1, sinks.KindMisconfigured, "a policy of the cluster"},
		{kerr.InvalidTimestamp, -1, sinks.KindPermanent, "refuses its time"},
		{kerr.CorruptMessage, -1, sinks.KindRetryable, "does not take it"},
	} {
		t.Run(fmt.Sprintf("%s %d times", c.err.Message, c.count), func(t *testing.T) {
			k := startKafka(t)
			target := k.target("{}")
			if c.kind == sinks.KindUnavailable {
				target = k.within(500 * time.Millisecond)
			}
			s := openSink(t, target)
			eventually(t, s, keyed("a", "0"))
			fault := k.Fault(kfake.Fault{Keys: produces, Err: c.err, Count: c.count})
			d := keyed("a", "1")
			out := deliver(t, s, d)
			wantReason(t, out[0], c.kind, c.text)
			fault.Remove()
			eventually(t, s, d)
			eventually(t, s, keyed("a", "2"))
			if got := slices.Compact(k.reader(t).payloads("a")); !slices.Equal(got, []string{"0", "1", "2"}) {
				t.Errorf("the topic holds %q", got)
			}
		})
	}
}

// holding refuses all batches that hold a text, as brokers do for one bad message in them.
func holding(text string) func(kmsg.Request) bool {
	return func(req kmsg.Request) bool {
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				if strings.Contains(string(p.Records), text) {
					return true
				}
			}
		}
		return false
	}
}

// What a broker says of a batch counts against the one message that is bad, however many share its partition, in this batch and in others on their way.
func TestOneBadMessageInAPartition(t *testing.T) {
	for name, c := range map[string]struct {
		opts []kfake.Opt
		err  *kerr.Error
		kind sinks.Kind
		text string
	}{
		"too large for the topic": {[]kfake.Opt{kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000"})}, nil, sinks.KindPermanent, "larger than the topic's max.message.bytes"},
		"invalid":                 {nil, kerr.InvalidRecord, sinks.KindPermanent, "takes no message without a key"},
		"corrupt":                 {nil, kerr.CorruptMessage, sinks.KindRetryable, "does not take it"},
	} {
		t.Run(name, func(t *testing.T) {
			k := startKafka(t, append(c.opts, kfake.SeedTopics(1, "narrow"))...)
			target := k.target(`{"topic": "narrow"}`)
			target.URL = "kafka://" + k.link.Addr()
			s := openSink(t, target)
			poison := `"poison` + strings.Repeat("x", 30_000) + `"`
			if c.err != nil {
				k.Fault(kfake.Fault{Keys: produces, Err: c.err, Count: -1, When: holding("poison")})
			}
			var lanes sync.WaitGroup
			for lane := range 4 {
				lanes.Go(func() {
					for round := range 5 {
						batch := make([]sinks.Delivery, 7)
						for i := range batch {
							batch[i] = keyed(fmt.Sprintf("k%d-%d", lane, i), strconv.Itoa(round))
						}
						bad := lane == 0
						if bad {
							batch[3].Payload = []byte(poison)
						}
						for i, err := range deliver(t, s, batch...) {
							if bad && i == 3 {
								wantReason(t, err, c.kind, c.text)
							} else {
								sinktest.WantKinds(t, []error{err}, sinks.KindAccepted)
							}
						}
					}
				})
			}
			lanes.Wait()
			last := map[string]int{}
			for _, rec := range k.reader(t).records("narrow") {
				n, err := strconv.Atoi(string(rec.Value))
				if err != nil || n < last[string(rec.Key)] {
					t.Errorf("key %s: %.20s after %d", rec.Key, rec.Value, last[string(rec.Key)])
				}
				last[string(rec.Key)] = n
			}
			if len(last) != 27 {
				t.Errorf("%d keys have arrived, want 27", len(last))
			}
		})
	}
}

// The order within each key outlives everything that brokers and networks do. What is accepted is there.
func TestOrderThroughTrouble(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.within(200*time.Millisecond))
	const keys, rounds = 12, 12
	var over atomic.Bool
	var accepted [keys]int
	var all atomic.Int64
	var workers sync.WaitGroup
	for key := range accepted {
		workers.Go(func() {
			for n := 0; !over.Load(); n++ {
				d := keyed("k"+strconv.Itoa(key), strconv.Itoa(n))
				for ctx := t.Context(); ctx.Err() == nil && sinktest.Deliver(ctx, s, d)[0] != nil; { // as the relay does: one message of a key at a time, until it is accepted
				}
				accepted[key]++
				all.Add(1)
			}
		})
	}
	errs := []*kerr.Error{kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.OutOfOrderSequenceNumber, kerr.CorruptMessage, kerr.MessageTooLarge, kerr.UnknownServerError}
	for n := range rounds {
		fault := k.Fault(kfake.Fault{Keys: produces, Err: errs[rand.IntN(len(errs))], Partitions: []int32{rand.Int32N(3)}, Count: 1})
		switch n % 4 {
		case 0:
			k.link.Reset()
		case 1:
			k.link.Hang()
		case 2:
			k.link.HalfOpen(linktest.ToClient)
		}
		time.Sleep(30 * time.Millisecond) // as long as the trouble lasts
		fault.Remove()
		k.link.Up()
		for before := all.Load(); all.Load() < before+2*keys && t.Context().Err() == nil; {
			time.Sleep(time.Millisecond)
		}
	}
	over.Store(true)
	workers.Wait()
	r := k.reader(t)
	for key, n := range accepted {
		var want []string
		for n := range n {
			want = append(want, strconv.Itoa(n))
		}
		if got := slices.Compact(r.payloads("k" + strconv.Itoa(key))); !slices.Equal(got, want) {
			t.Errorf("key %d: %d messages were accepted, and it holds %q", key, n, got)
		}
	}
}

// A topic that is missing is said so, and made by nobody; when it is there, all goes on, also when it was removed and made again.
func TestTopicIsMissing(t *testing.T) {
	k := startKafka(t)
	target := k.target("")
	target.URL = "kafka://" + k.link.Addr() + "/later"
	s := openSink(t, target)
	d := keyed("a", "1")
	wantReason(t, deliver(t, s, d)[0], sinks.KindMisconfigured, "the topic does not exist: create it")
	if info := k.TopicInfo("later"); info != nil {
		t.Fatalf("the topic was made: %+v", info)
	}
	create := func() {
		if err := k.CreateTopic("later", 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	create()
	eventually(t, s, d)
	if err := k.DeleteTopic("later"); err != nil {
		t.Fatal(err)
	}
	wantReason(t, deliver(t, s, keyed("a", "2"))[0], sinks.KindMisconfigured, "the topic does not exist")
	create()
	eventually(t, s, keyed("a", "3"))
	if got := k.reader(t).records("later"); len(got) != 1 || string(got[0].Value) != "3" {
		t.Errorf("the topic that was made again holds %d records", len(got))
	}
	if err := k.DeleteTopic("later"); err != nil {
		t.Fatal(err)
	}
	create() // at once, so that nobody has seen that it was away
	eventually(t, s, keyed("a", "4"))
}

// Without a topic in the URL each message goes to the topic of its own name; one whose topic is missing delays no other.
func TestTopicOfEachMessage(t *testing.T) {
	k := startKafka(t, kfake.SeedTopics(1, "shop.orders.created"))
	target := k.target(`{"prefix": "shop."}`)
	target.URL = "kafka://" + k.link.Addr()
	s := openSink(t, target)
	out := deliver(t, s, sinktest.NewDelivery("orders.created", "1"), sinktest.NewDelivery("orders.nowhere", "2"), sinktest.NewDelivery("orders/bad", "3"))
	sinktest.WantKinds(t, out, sinks.KindAccepted, sinks.KindMisconfigured, sinks.KindPermanent)
	wantReason(t, out[2], sinks.KindPermanent, `topic "shop.orders/bad" holds '/'`)
}

// A cluster that is killed, and comes back without knowing anything, gets what it has not confirmed.
func TestClusterIsKilledAndComesBack(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.within(500*time.Millisecond))
	eventually(t, s, keyed("a", "1"))
	k.Close()
	d := keyed("a", "2")
	wantReason(t, deliver(t, s, d)[0], sinks.KindUnavailable, "no acknowledgement")
	k.start(t)
	eventually(t, s, d)
	if got := slices.Compact(k.reader(t).payloads("a")); !slices.Equal(got, []string{"2"}) {
		t.Errorf("the topic holds %q", got)
	}
}

// Messages without an acknowledgement are bounded, over all batches, and those that wait for room can be cancelled.
func TestPendingIsBounded(t *testing.T) {
	k := startKafka(t)
	target := k.target(`{"max_pending": 7}`)
	s := openSink(t, target)
	eventually(t, s, keyed("a", "0"))
	k.link.Hang()
	batch := make([]sinks.Delivery, 20)
	for i := range batch {
		batch[i] = sinktest.NewDelivery("orders.created", strconv.Itoa(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan []error, 1)
	go func() { out <- sinktest.Deliver(ctx, s, batch...) }()
	for deadline := time.Now().Add(sinktest.Patience); s.client.BufferedProduceRecords() < 7; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is on its way")
		}
	}
	cancel()
	for i, err := range <-out {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("outcome of message %d is %v, want the context's error", i, err)
		}
	}
	if n := s.client.BufferedProduceRecords(); n != 7 {
		t.Errorf("%d messages are on their way, want 7", n)
	}
	k.link.Up()
	sinktest.WantKinds(t, deliver(t, s, batch...), make([]sinks.Kind, 20)...)
	if n := len(k.reader(t).records("orders")); n != 21 {
		t.Errorf("the topic holds %d records, want 21", n)
	}
}

// A batch that is larger than what may be in memory at once goes in parts.
func TestBatchLargerThanMemory(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.target(""))
	payload := strings.Repeat("x", 900_000)
	batch := make([]sinks.Delivery, pendingBytes/len(payload)+20)
	for i := range batch {
		batch[i] = keyed("k"+strconv.Itoa(i), payload)
	}
	sinktest.WantKinds(t, deliver(t, s, batch...), make([]sinks.Kind, len(batch))...)
}

// A message larger than the setting is a dead letter before anything is sent.
func TestTooLargeIsKnownBefore(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.target(`{"max_message_bytes": 2000}`))
	sent := k.Fault(kfake.Fault{Keys: produces, Observe: true, Count: -1})
	wantReason(t, deliver(t, s, keyed("a", strings.Repeat("x", 2000)))[0], sinks.KindPermanent, "max_message_bytes is 2000")
	if n := sent.Hits(); n != 0 {
		t.Errorf("%d requests", n)
	}
	// What the setting lets pass, the client takes, though it counts what headers take in another way.
	d := keyed("a", "")
	many := map[string]string{}
	for i := range 60 {
		many[fmt.Sprint("header-", i)] = strings.Repeat("v", 64)
	}
	var err error
	if d.Headers, err = json.Marshal(many); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		d     sinks.Delivery
		limit int
	}{{keyed("a", ""), 2000}, {d, 8000}} {
		s := openSink(t, k.target(fmt.Sprintf(`{"max_message_bytes": %d}`, c.limit)))
		first := ""
		for n := c.limit * 3 / 10; n < c.limit && first == ""; n++ {
			c.d.Payload = []byte(strings.Repeat("x", n))
			out := deliver(t, s, c.d)[0]
			if kind, _ := sinks.Classify(out); kind == sinks.KindPermanent {
				first = out.Error()
			}
		}
		if want := fmt.Sprintf("has %d bytes with key and headers, and max_message_bytes is %d", c.limit+1, c.limit); !strings.Contains(first, want) {
			t.Errorf("the first that is refused: %s, want %q in it", first, want)
		}
	}
}

func TestGuardHoldsForWhatBrokersName(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.target(`{"guard": {"deny": ["127.0.0.0/8"]}}`))
	wantReason(t, deliver(t, s, keyed("a", "1"))[0], sinks.KindUnavailable, "refused by the guard")
	// The address in the URL is allowed, and the broker names another one.
	target := k.target(`{"guard": {"deny": ["127.0.0.1/32"]}}`)
	other, err := linktestOn(t, "127.0.0.2", k.real)
	if err != nil {
		t.Skipf("NOT TESTED, brokers at an address that the guard refuses: no second loopback address: %v", err)
	}
	target.URL = "kafka://" + other + "/orders"
	conns := k.link.Conns()
	s = openSink(t, target)
	wantReason(t, deliver(t, s, keyed("a", "1"))[0], sinks.KindUnavailable, "refused by the guard")
	if n := k.link.Conns(); n > conns {
		t.Errorf("%d connections to the address that is denied", n-conns)
	}
}

// That no connection comes about is told soon, however long an acknowledgement may take.
func TestNoConnectionIsToldSoon(t *testing.T) {
	k := startKafka(t)
	s := openSink(t, k.target(`{"ack_timeout": "10m"}`))
	k.link.Down()
	ctx, cancel := context.WithTimeout(t.Context(), sinktest.Patience)
	defer cancel()
	wantReason(t, sinktest.Deliver(ctx, s, keyed("a", "1"))[0], sinks.KindUnavailable, "connection refused")
	k.link.Up()
	eventually(t, s, keyed("a", "1"))
}

// Acknowledgements that came late, and that nobody asks for, do not fill the memory.
func TestLateAcknowledgementsAreBounded(t *testing.T) {
	var l left
	for i := range mostStored + 10 {
		rec, failed := &record{first: newRound()}, &record{first: newRound()}
		l.conclude([]sinks.Delivery{{Message: &sinks.Message{MessageID: strconv.Itoa(i)}}, {Message: &sinks.Message{MessageID: "failed"}}}, []*record{rec, failed}, make([]error, 2), errSilent)
		l.end(rec, nil)
		l.end(failed, errSilent)
	}
	if len(l.behind) != mostStored || l.stored != mostStored {
		t.Errorf("%d are remembered, %d as stored; want %d", len(l.behind), l.stored, mostStored)
	}
}
