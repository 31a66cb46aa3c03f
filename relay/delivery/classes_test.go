package delivery

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// quietSender takes deliveries and never ends one.
type quietSender struct{ simRunner }

func newClassRunner(sink sinks.Sink, lanes, batch int) *Runner {
	var cursors []store.Cursor
	for class := range int16(4) {
		cursors = append(cursors, store.Cursor{Part: subscription.Part{Subscription: "s", Class: class + 1}})
	}
	settings := subscription.Settings{}.WithDefaults()
	settings.Priorities = true
	return New(Environment{Sink: sink, Budget: &queue.Budget{Limit: 1 << 26}, Cursor: cursors[0], Classes: cursors, Sub: subscription.Subscription{Name: "s", Settings: settings}},
		&Filter{}, sinks.Limits{Lanes: lanes, Batch: batch})
}

// offer has messages wait, of a class and with a key.
func (r *Runner) offer(class int16, key string, ids ...int64) {
	for _, id := range ids {
		row := &message.Row{}
		row.ID, row.Priority, row.Key = id, class, key
		r.enqueue(&task{row: row, key: key, in: r.retries.intakeOf(class)})
	}
}

func (r *Runner) formed(l *lane, now time.Time) (ids []int64) {
	r.form(l, l.batchMax, now)
	for _, t := range l.batch {
		ids = append(ids, t.row.ID)
		r.free(t)
	}
	return ids
}

// A lane takes from the lowest class that has something, whatever came first, with and without keys.
func TestLowestClassFirst(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, key := range []string{"", "k%d"} {
		r := newClassRunner(nil, 1, 2)
		for n := range int64(4) {
			name := func(id int64) string {
				if key == "" {
					return ""
				}
				return fmt.Sprintf(key, id)
			}
			r.offer(4-int16(n), name(2*n), 2*n)
			r.offer(4-int16(n), name(2*n+1), 2*n+1)
		}
		for _, want := range []string{"[6 7]", "[4 5]", "[2 3]", "[0 1]", "[]"} {
			if got := fmt.Sprint(r.formed(r.lanes.all[0], now)); got != want {
				t.Errorf("keys %q: a batch has %s, want %s", key, got, want)
			}
		}
		for _, in := range r.intakes {
			if in.tasks != 0 || in.bytes != 0 {
				t.Errorf("class %d: %d tasks, %d bytes are left on its account", in.part.Class, in.tasks, in.bytes)
			}
		}
	}
}

// A class that has had no turn for a minute gets one task, and then waits for another minute.
func TestUnservedClassGetsOneTask(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	for _, key := range []string{"", "k"} {
		r := newClassRunner(nil, 1, 1)
		r.offer(4, key, 1, 2, 3)
		var ages []int
		for second := range 200 {
			r.offer(1, fmt.Sprint("other", second), int64(1000+second))
			if ids := r.formed(r.lanes.all[0], start.Add(time.Duration(second)*time.Second)); len(ids) != 1 {
				t.Fatalf("second %d: a batch has %d tasks, want 1", second, len(ids))
			} else if ids[0] < 1000 {
				ages = append(ages, second)
			}
		}
		if got := fmt.Sprint(ages); got != "[60 120 180]" {
			t.Errorf("key %q: class 4 had its turns in seconds %s, want one each minute", key, got)
		}
	}
}

// What has waited long is not what was not served: an old backlog outranks nothing.
func TestOldBacklogOutranksNothing(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	r := newClassRunner(nil, 1, 1)
	r.offer(4, "", 1, 2, 3, 4, 5, 6)
	for n := range 3 { // it is served all the time
		if got := r.formed(r.lanes.all[0], start.Add(time.Duration(n)*40*time.Second)); len(got) != 1 || got[0] != int64(n+1) {
			t.Fatalf("a batch has %v, want [%d]", got, n+1)
		}
	}
	r.offer(1, "", 1000)
	if got := r.formed(r.lanes.all[0], start.Add(100*time.Second)); len(got) != 1 || got[0] != 1000 {
		t.Errorf("a batch has %v, want the urgent message", got)
	}
}

// Deliveries that end one by one have their turns in the same way: across keys, each of which has a lane of its own.
func TestClassesOfASender(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	x := &quietSender{}
	x.sim, x.out = &simulation{}, make(map[int64]func(error))
	r := newClassRunner(sinks.AsSink(x), 2, 1)
	r.offer(4, "a", 1, 2)
	r.offer(4, "b", 3)
	r.offer(4, "c", 4)
	r.offer(1, "c", 5)
	r.offer(1, "d", 6)
	r.sendReady(now)
	if len(x.out) != 2 || x.out[5] == nil || x.out[6] == nil {
		t.Fatalf("%d are out, want 5 and 6 of the first class: %v", len(x.out), x.out)
	}
	r.offer(1, "e", 7)
	end := func(id int64) {
		done := x.out[id]
		delete(x.out, id)
		done(nil)
		for _, l := range r.lanes.collectFinished() {
			l.busy = false
			r.lanes.inFlight--
			r.free(l.batch[0])
			r.lanes.rest(l)
		}
	}
	end(5)
	if r.sendReady(now.Add(time.Minute)); x.out[1] == nil {
		t.Fatalf("after a minute class 4 has no turn: %v", x.out)
	}
	r.offer(1, "a", 8)
	end(6)
	if r.sendReady(now.Add(time.Minute)); x.out[7] == nil || len(x.out) != 2 {
		t.Fatalf("out are %v, want 7: class 4 has had its turn", x.out)
	}
	end(1)
	if r.sendReady(now.Add(time.Minute)); x.out[8] == nil || len(x.out) != 2 {
		t.Fatalf("out are %v, want 8: it is of key a, whose message of class 4 is back", x.out)
	}
}

// A lane that was in the list of a class, had a turn for another, and is back in the first, is there once: what explore parked of it twice
// ended the relay.
func TestLaneThatComesBackIsListedOnce(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	x := &quietSender{}
	x.sim, x.out = &simulation{}, make(map[int64]func(error))
	r := newClassRunner(sinks.AsSink(x), 1, 1)
	r.offer(4, "c", 1)
	r.offer(1, "c", 2)
	if r.sendReady(now); x.out[2] == nil {
		t.Fatalf("out are %v, want 2", x.out)
	}
	x.out[2](nil)
	for _, l := range r.lanes.collectFinished() {
		l.busy = false
		r.lanes.inFlight--
		r.free(l.batch[0])
		r.lanes.rest(l)
	}
	if idle := r.lanes.idle(); len(idle) != 1 {
		t.Errorf("%d lanes are idle, want that of key c alone", len(idle))
	}
}
