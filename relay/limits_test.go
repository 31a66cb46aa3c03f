package relay

import (
	"testing"
	"time"

	"github.com/postrider/postrider/sinks/sinktest"
)

// A tenant that has much waiting gets no more than its limit, and others go on beside it.
func TestLimitPerTenant(t *testing.T) {
	s := newScene(t)
	m := &sinktest.Memory{Lanes: 100}
	m.Hang()
	s.subscribe("jobs", "{>}", `{"limits": {"in_flight": 10, "per": {"by": "header:Tenant", "in_flight": 4}}}`, "now")
	s.start(sendTo(m))
	s.Exec(`INSERT INTO postrider.outbox (topic, key, payload, headers) SELECT 'job', g::text, to_jsonb(g), '{"tenant":"big"}' FROM generate_series(1, 300) g`)
	s.Exec(`INSERT INTO postrider.outbox (topic, payload, headers) SELECT 'job', to_jsonb(g), '{"tenant":"small"}' FROM generate_series(1, 3) g`)
	eventually(t, "four of the large tenant and all of the small one's are out", func() bool { return m.Out() == 7 })
	s.bulk("job", 5, 0) // of none
	eventually(t, "as many as may be are out", func() bool { return m.Out() == 10 })
	m.Up()
	s.settledAll("jobs")
	if n := len(m.Received()); n != 308 {
		t.Errorf("%d messages arrived, want 308", n)
	}
}

// What messages are told apart by may be anything that they carry; one of which an expression cannot say it counts towards the limits of all.
func TestLimitPerExpression(t *testing.T) {
	s := newScene(t)
	m := &sinktest.Memory{Lanes: 100}
	m.Hang()
	s.subscribe("jobs", "{>}", `{"limits": {"in_flight": 12, "per": {"by": "cel:payload.customer.id / 100", "in_flight": 4}}}`, "now")
	s.start(sendTo(m))
	s.Exec(`INSERT INTO postrider.outbox (topic, payload) SELECT 'job', jsonb_build_object('customer', jsonb_build_object('id', 200 + g % 100)) FROM generate_series(1, 300) g`)
	s.Exec(`INSERT INTO postrider.outbox (topic, payload) SELECT 'job', '{"customer": {"id": 399}}' FROM generate_series(1, 3) g`)
	eventually(t, "four of one hundred and all of the other are out", func() bool { return m.Out() == 7 })
	s.bulk("job", 5, 0)
	eventually(t, "all of which nothing can be said are out", func() bool { return m.Out() == 12 })
	m.Up()
	s.settledAll("jobs")
	if n := len(m.Received()); n != 308 {
		t.Errorf("%d messages arrived, want 308", n)
	}
}

// Batches keep limits, too: one key has one message out in any case, and with it no more than the limit of all.
func TestLimitsOfBatches(t *testing.T) {
	s := newScene(t)
	r := s.subscribe("sub", "{>}", `{"limits": {"in_flight": 5, "rate": "50/s"}}`, "now")
	held := make(chan struct{})
	r.hold(held)
	s.start()
	s.bulk("t", 60, 7)
	eventually(t, "the first are out", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.calls > 0 })
	began := time.Now()
	close(held)
	s.settledAll("sub")
	// What began before is at most what is out at once and may begin together.
	if took, least := time.Since(began), 45*time.Second/50; took < least {
		t.Errorf("60 messages took %s at 50 a second, at least %s was to be expected", took, least)
	}
}

// Limits count what is leased, and what the former relay has handed over.
func TestLimitsCountLeases(t *testing.T) {
	s, d := newScene(t), newDesk()
	s.subscribe("jobs", "{>}", `{"limits": {"in_flight": 3}}`, "now")
	run := s.start(d.serve)
	ids := s.bulk("job", 5, 0)
	eventually(t, "three are out", func() bool { return d.isOut(ids[:3]...) })
	d.leaseAll(time.Hour, ids[0], ids[1])
	s.shows("jobs", "leased", ids[:2]...)
	run.stop() // which leases the third
	s.start(d.serve)
	eventually(t, "the next relay serves", func() bool { return len(d.servings()) == 2 })
	for i, id := range ids[3:] {
		d.end(ids[i], nil)
		s.shows("jobs", "delivered", ids[i])
		eventually(t, "the next takes its place", func() bool { return d.sentTimes(id) == 1 })
		if i == 0 && d.sentTimes(ids[4]) > 0 {
			t.Error("four are out")
		}
	}
	for _, id := range ids[2:] {
		d.over(id, nil)
	}
	s.settledAll("jobs")
}
