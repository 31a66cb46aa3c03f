package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// desk is a destination whose workers come for messages: one that leases by itself. A test says what they do.
type desk struct {
	mu     sync.Mutex
	sent   map[int64]int                // how often each message was sent
	out    map[int64]func(error)        // what has been sent and has not ended
	leases map[int64]sinks.Lease        // by message
	settle func(token int64, err error) // of the opening that is served now
	tokens int64
	served [][]sinks.Lease
}

func newDesk() *desk {
	return &desk{sent: make(map[int64]int), out: make(map[int64]func(error)), leases: make(map[int64]sinks.Lease)}
}

// opened is one opening of a desk.
type opened struct {
	sinks.Sink
	*desk
}

var _ sinks.Lessor = opened{}

func (d *desk) serve(c *Config) {
	c.Open = func(context.Context, subscription.Subscription) (sinks.Sink, error) {
		return opened{sinks.AsSink(d), d}, nil
	}
}

// Send implements sinks.Sender.
func (d *desk) Send(_ context.Context, m sinks.Delivery, done func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent[m.ID]++
	d.out[m.ID] = done
}

// Limits implements sinks.Sender.
func (*desk) Limits() sinks.Limits { return sinks.Limits{Lanes: 100, Batch: 1} }

// Limits implements sinks.Sender.
func (o opened) Limits() sinks.Limits { return o.desk.Limits() }

// Close implements sinks.Sender.
func (d *desk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, done := range d.out {
		delete(d.out, id)
		done(context.Canceled)
	}
	return nil
}

// Close implements sinks.Sender.
func (o opened) Close() error { return o.desk.Close() }

// Serve implements sinks.Lessor.
func (d *desk) Serve(leases []sinks.Lease, settle func(int64, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.served = append(d.served, leases)
	d.settle = settle
	for _, l := range leases {
		d.leases[l.ID] = l
	}
}

// LeaseOut implements sinks.Lessor.
func (d *desk) LeaseOut(time.Duration) { d.Relinquish() }

// Relinquish implements sinks.Relinquisher.
func (d *desk) Relinquish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.out {
		d.lease(id, time.Minute)
	}
}

// lease ends a delivery as leased. The caller has the lock.
func (d *desk) lease(id int64, lasts time.Duration) {
	d.tokens++
	d.leases[id] = sinks.Lease{ID: id, Token: d.tokens, Worker: "worker"}
	done := d.out[id]
	delete(d.out, id)
	done(sinks.LeasedTo("worker", lasts, d.tokens, nil))
}

// leaseAll leases these.
func (d *desk) leaseAll(lasts time.Duration, ids ...int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		d.lease(id, lasts)
	}
}

// end says what came of the lease of a message.
func (d *desk) end(id int64, outcome error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(d.leases[id].Token, outcome)
	if kind, _ := sinks.Classify(outcome); kind != sinks.KindLeased {
		delete(d.leases, id)
	}
}

// over says what came of a message that somebody has, leased or not.
func (d *desk) over(id int64, outcome error) {
	d.mu.Lock()
	done := d.out[id]
	delete(d.out, id)
	d.mu.Unlock()
	if done != nil {
		done(outcome)
		return
	}
	d.end(id, outcome)
}

// isOut says whether all these are out now.
func (d *desk) isOut(ids ...int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !slices.ContainsFunc(ids, func(id int64) bool { return d.out[id] == nil })
}

func (d *desk) finish(ids ...int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		done := d.out[id]
		delete(d.out, id)
		done(nil)
	}
}

// A stop of the relay hands over what is out, and waits for none of it: the next one knows who has it, and delivers none of it again.
func TestStopHandsOverWhatIsOut(t *testing.T) {
	s, d := newScene(t), newDesk()
	s.subscribe("jobs", "{>}", "{}", "now")
	run := s.start(d.serve, func(c *Config) { c.DrainTimeout = 2 * patience })
	ids := s.bulk("job", 20, 0)
	eventually(t, "all are out", func() bool { return d.isOut(ids...) })
	if n := scalar[int](s.bench, "SELECT count(*) FROM postrider.parked"); n > 0 {
		t.Errorf("%d rows for deliveries that are out", n)
	}
	began := time.Now()
	run.stop()
	if took := time.Since(began); took > patience {
		t.Errorf("the stop took %s: it has waited for what is out", took)
	}
	if n := scalar[int](s.bench, `SELECT count(*) FROM postrider.parked WHERE state = 'leased' AND worker = 'worker' AND token IS NOT NULL
		AND due BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute'`); n != len(ids) {
		t.Errorf("%d leases are recorded, want %d", n, len(ids))
	}
	s.start(d.serve)
	eventually(t, "the next relay serves", func() bool { return len(d.servings()) == 2 })
	if found := d.servings()[1]; len(found) != len(ids) || found[0].Worker != "worker" || found[0].Attempt != 1 || found[0].Token == 0 {
		t.Errorf("the next relay has found %+v", found)
	}
	for _, id := range ids {
		d.end(id, nil)
	}
	s.settledAll("jobs")
	for _, id := range ids {
		if d.sentTimes(id) != 1 {
			t.Errorf("message %d was sent %d times", id, d.sentTimes(id))
		}
	}
}

func (d *desk) servings() [][]sinks.Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.served)
}

func (d *desk) sentTimes(id int64) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent[id]
}

// What a desk says of its leases counts, long before they end and whether they are recorded yet or not.
func TestLeasesEnd(t *testing.T) {
	s, d := newScene(t), newDesk()
	s.subscribe("jobs", "{>}", `{"max_attempts": 3, "backoff_initial": "1ms", "max_parked": 1}`, "now")
	s.start(d.serve)
	ids := s.bulk("job", 7, 0)
	done, failed, lost, snoozed, released, buried, longer := ids[0], ids[1], ids[2], ids[3], ids[4], ids[5], ids[6]
	eventually(t, "all are out", func() bool { return d.isOut(ids...) })
	d.leaseAll(time.Hour, ids...)
	d.end(ids[0], nil) // at once
	s.shows("jobs", "leased", ids[1:]...)
	// They count towards no limit: the others go on.
	more := s.bulk("job", 1, 0)
	eventually(t, "others go on", func() bool { return d.isOut(more...) })
	d.finish(more...)
	due := func() time.Time {
		return scalar[time.Time](s.bench, "SELECT due FROM postrider.parked WHERE id = $1", longer)
	}
	was := due()
	d.end(longer, sinks.LeasedTo("worker", 5*time.Hour, d.leases[longer].Token, nil))
	d.end(failed, sinks.Failed(errors.New("no"), 0))
	d.end(lost, sinks.Lost(errors.New("gone")))
	d.end(snoozed, sinks.Snoozed(time.Hour))
	d.end(released, sinks.Released())
	d.end(buried, sinks.Permanent(errors.New("never")))
	s.shows("jobs", "dead", buried)
	s.shows("jobs", "retrying", snoozed)
	eventually(t, "what failed is sent again", func() bool { return d.isOut(failed, lost, released) })
	eventually(t, "the lease is longer", func() bool { return due().After(was.Add(3 * time.Hour)) })
	d.end(longer, nil)
	for id, attempts := range map[int64]int{failed: 1, lost: 1, released: 0, snoozed: 0} {
		if n := scalar[int](s.bench, "SELECT attempts FROM postrider.parked WHERE id = $1", id); n != attempts {
			t.Errorf("message %d has %d attempts, want %d", id, n, attempts)
		}
	}
	d.finish(failed, lost, released)
	s.shows("jobs", "delivered", done, failed, lost, released, longer)
	for _, id := range []int64{done, snoozed, buried, longer} {
		if d.sentTimes(id) != 1 {
			t.Errorf("message %d was sent %d times", id, d.sentTimes(id))
		}
	}
}

// What comes after a pass is not held up by what is still out of it.
func TestSlowDeliveryDoesNotHoldUpAPass(t *testing.T) {
	s, d := newScene(t), newDesk()
	s.subscribe("jobs", "{>}", "{}", "earliest")
	slow, quick := s.Publish("job", "", "1")[0], s.Publish("job", "", "2")[0]
	s.start(d.serve)
	eventually(t, "both are out", func() bool { return d.isOut(slow, quick) })
	d.finish(quick)
	later := s.Publish("job", "", "3")
	eventually(t, "what came later is out", func() bool { return d.sentTimes(later[0]) > 0 })
	d.over(later[0], nil)
	d.over(slow, nil)
	s.settledAll("jobs")
}

// A key waits for what is leased, also across relays.
func TestKeyWaitsForItsLease(t *testing.T) {
	s, d := newScene(t), newDesk()
	s.subscribe("jobs", "{>}", "{}", "now")
	run := s.start(d.serve)
	ids := s.Publish("job", "k", "1", "2", "3")
	eventually(t, "the first is out", func() bool { return d.isOut(ids[0]) })
	d.leaseAll(time.Hour, ids[0])
	s.shows("jobs", "held", ids[1:]...)
	run.stop()
	s.start(d.serve)
	eventually(t, "the next relay serves", func() bool { return len(d.servings()) == 2 })
	other := s.Publish("job", "other", "1")
	eventually(t, "others go on", func() bool { return d.sentTimes(other[0]) > 0 })
	if d.sentTimes(ids[1]) > 0 {
		t.Error("the second was sent before the first was done")
	}
	for _, id := range []int64{other[0], ids[0], ids[1], ids[2]} {
		eventually(t, "the next of the key is out", func() bool { return d.sentTimes(id) > 0 })
		d.over(id, nil)
	}
	s.settledAll("jobs")
}
