package relay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/store"
)

// later publishes messages that are due after so long.
func (b *bench) later(n int, after string) {
	b.t.Helper()
	b.Exec(`SELECT count(postrider.enqueue('later', '{}', deliver_at => clock_timestamp() + $1::text::interval)) FROM generate_series(1, $2)`, after, n)
}

func (b *bench) scheduled(name string) int {
	b.t.Helper()
	return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE subscription = $1 AND state = 'scheduled'", name)
}

// At max_scheduled further messages stay in the log, and those come that are due, then or by then. Where so many stay there that the
// cursor can go no further, it says so, and other subscriptions are not concerned.
func TestMaxScheduled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	bounded, other := b.subscribe("bounded", "{>}", `{"max_scheduled": 3}`, "now"), b.subscribe("other", "{>}", "{}", "now")
	run, _ := b.startWatched()
	b.Publish("t", "k", "1")
	wantPayloads(t, bounded, "1")
	b.later(5, "1 hour")
	b.later(1, "1 second")
	b.Publish("t", "k", "2", "3")
	wantPayloads(t, bounded, "1", "2", "3", "{}") // the last one when its second is over
	eventually(t, "the other one has parked all", func() bool { return b.scheduled("other") == 5 })
	if n := b.scheduled("bounded"); n != 3 {
		t.Errorf("%d messages are scheduled, want 3", n)
	}
	run.stop()
	b.Publish("t", "k", "4")
	run, g := b.startWatched()
	b.Publish("t", "k", "5")
	wantPayloads(t, bounded, "1", "2", "3", "{}", "4", "5")

	trouble := func() string {
		return scalar[string](b, "SELECT coalesce(trouble, '') FROM postrider.subscription_status WHERE name = 'bounded'")
	}
	if was := trouble(); was != "" {
		t.Errorf("there is trouble while everything goes on: %s", was)
	}
	b.later(delivery.MaxBeyond, "1 hour")
	eventually(t, "the subscription says why it goes no further", func() bool { return strings.Contains(trouble(), "max_scheduled") })
	if n := g.sum("intake_stopped", "bounded"); n != 1 {
		t.Errorf("intake_stopped is %v, want 1", n)
	}
	b.Publish("t", "k", "6")
	wantPayloads(t, other, "1", "2", "3", "{}", "4", "5", "6")
	if err := run.Ready(); err != nil {
		t.Errorf("the relay is not ready: %v", err)
	}
	if n := b.scheduled("bounded"); n != 3 || bounded.count() != 6 {
		t.Errorf("%d messages are scheduled, and %d delivered, want 3 and 6", n, bounded.count())
	}
	b.Exec(`UPDATE postrider.subscriptions SET settings = '{}' WHERE name = 'bounded'`)
	wantPayloads(t, bounded, "1", "2", "3", "{}", "4", "5", "6")
	eventually(t, "the trouble is over", func() bool { return trouble() == "" && g.sum("intake_stopped", "bounded") == 0 })
	eventually(t, "all are scheduled", func() bool { return b.scheduled("bounded") == 5+delivery.MaxBeyond })
}

// Scheduled messages count that a relay does not keep in memory.
func TestMaxScheduledCountsWhatIsInTheTableAlone(t *testing.T) {
	t.Parallel()
	const most = store.MaxScheduled + 500
	b := newBench(t)
	bounded := b.subscribe("bounded", "{>}", fmt.Sprintf(`{"max_scheduled": %d}`, most), "now")
	b.Exec(`INSERT INTO postrider.parked (subscription, id, created_at, state, due, topic, payload)
		SELECT 'bounded', -n, now(), 'scheduled', now() + interval '1 hour', 'later', '{}' FROM generate_series(1, $1) n`, store.MaxScheduled+300)
	b.start()
	b.later(400, "1 hour")
	b.Publish("t", "k", "1")
	wantPayloads(t, bounded, "1")
	eventually(t, "there are as many as may be", func() bool { return b.scheduled("bounded") >= most })
	for range 3 { // what is saved may be forgotten
		saved := scalar[string](b, "SELECT saved_at::text FROM postrider.cursors")
		b.Publish("t", "k", "2")
		eventually(t, "progress is saved", func() bool { return scalar[string](b, "SELECT saved_at::text FROM postrider.cursors") != saved })
	}
	wantPayloads(t, bounded, "1", "2", "2", "2")
	if n := b.scheduled("bounded"); n != most {
		t.Errorf("%d messages are scheduled, want %d", n, most)
	}
}

// What a relay has is saved as it has it: a message is looked for in the log only if it was withheld. Tens of thousands that wait for their time, or
// fail at once, would take a save many seconds else.
func TestSavesLookForNothingThatIsThere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Exec(`CREATE OR REPLACE FUNCTION postrider.copied_message(id bigint, created_at timestamptz, careful boolean, OUT payload jsonb, OUT body bytea, OUT headers jsonb)
		RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE EXCEPTION 'a message is looked for'; END $$`)
	b.subscribe("sub", "{>}", "{}", "now")
	b.start()
	b.Exec("INSERT INTO postrider.outbox (topic, payload, deliver_at) SELECT 'a', to_jsonb(g), now() + interval '1 day' FROM generate_series(1, 10) g")
	eventually(t, "all are parked until their time", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'scheduled' AND payload IS NOT NULL") == 10
	})
}
