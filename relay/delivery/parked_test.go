package delivery

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/subscription"
)

// parkedTable is the table as it is after all operations recorded so far have been saved.
type parkedTable map[int64]parkedRecord

type parkedRecord struct {
	state    string
	attempts int
	due      time.Time
	reason   string
}

// save carries out operations as the save statement does.
func (table parkedTable) save(ops map[snapshot.Ident]*ParkOp) {
	for m, op := range ops {
		id := m.ID
		op.fix()
		old, exists := table[id]
		record := parkedRecord{op.state, op.attempts, op.due, op.reason}
		switch {
		case op.remove:
			delete(table, id)
		case op.Insert != nil:
			if !exists {
				table[id] = record
			}
		case exists:
			record.reason = cmp.Or(op.reason, old.reason)
			table[id] = record
		}
	}
}

func TestParkedSetIsWhatIsSaved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newParkedSet(1000, true)
		model := make(map[int64]parkedRecord)
		keys := make(map[int64]string)
		popped := make(map[int64]bool) // out of the heap of what is due
		table := make(parkedTable)
		start := time.Unix(1_800_000_000, 0)
		when := func() time.Time { return start.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "due")) * time.Second) }
		states := rapid.SampledFrom([]string{states.Retrying, states.Held, states.Scheduled, states.Leased, states.Dead})
		next := int64(1)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step := rapid.IntRange(0, 8).Draw(t, "step")
			if len(model) == 0 || step < 3 { // ids need not come in order: retries of an earlier pass
				id := next*10 - rapid.Int64Range(0, 30).Draw(t, "back")
				if _, exists := model[id]; exists || table[id].state != "" || p.ops[snapshot.Ident{ID: id}] != nil {
					continue
				}
				next++
				e := &entry{id: id, keyClass: keyClass{key: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "key")}, state: states.Draw(t, "state"), due: when()}
				p.add(e)
				p.record(&ParkOp{entry: e, Insert: &message.Row{}, reason: "new"})
				model[id], keys[id] = parkedRecord{e.state, 0, e.due, "new"}, e.key
				delete(popped, id)
				continue
			}
			e := p.byID[snapshot.Ident{ID: rapid.SampledFrom(slices.Sorted(maps.Keys(model))).Draw(t, "id")}]
			switch step {
			case 3, 4:
				e.attempts++
				state, due := states.Draw(t, "state"), when()
				p.change(e, state, due, "changed")
				model[e.id] = parkedRecord{state, e.attempts, due, "changed"}
				delete(popped, e.id)
			case 5:
				p.remove(e)
				delete(model, e.id)
			case 6:
				table.save(p.ops)
				clear(p.ops)
				for _, e := range p.byID {
					e.stored = e.state
				}
				if !maps.Equal(table, model) {
					t.Fatalf("the table holds %v, want %v", table, model)
				}
			case 7, 8:
				now := when()
				for got := p.nextDue(now); got != nil; got = p.nextDue(now) {
					if !got.durable() || got.due.After(now) {
						t.Fatalf("%d is not due at %s", got.id, now)
					}
					checkFirstDue(t, model, popped, got)
					popped[got.id] = true
				}
				for id, r := range model {
					if !popped[id] && isDueState(r.state) && !r.due.After(now) && allDurable(p) {
						t.Fatalf("%d is due at %s, but was not returned", id, now)
					}
				}
			}
			checkParked(t, p, model, keys)
		}
	})
}

func isDueState(state string) bool { return state == states.Retrying || state == states.Scheduled }

func allDurable(p *parkedSet) bool {
	for _, e := range p.byID {
		if isDueState(e.state) && !e.durable() {
			return false
		}
	}
	return true
}

// checkFirstDue wants nothing that is due before what was returned, and of what is due at once the oldest.
func checkFirstDue(t *rapid.T, model map[int64]parkedRecord, popped map[int64]bool, got *entry) {
	t.Helper()
	for id, r := range model {
		if popped[id] || !isDueState(r.state) || id == got.id {
			continue
		}
		if c := r.due.Compare(got.due); c < 0 || c == 0 && id < got.id {
			t.Fatalf("%d, due at %s, came before %d, due at %s", got.id, got.due, id, r.due)
		}
	}
}

func checkParked(t *rapid.T, p *parkedSet, model map[int64]parkedRecord, keys map[int64]string) {
	t.Helper()
	blocked, later, waiting := 0, 0, 0
	byKey := make(map[string][]int64)
	for _, id := range slices.Sorted(maps.Keys(model)) {
		state := model[id].state
		if e := p.byID[snapshot.Ident{ID: id}]; e == nil || e.state != state {
			t.Fatalf("%d is %v, want state %s", id, e, state)
		}
		switch state {
		case states.Scheduled:
			later++
			continue
		case states.Leased:
			waiting++
			blocked++
		case states.Retrying, states.Held:
			blocked++
		}
		if keys[id] != "" {
			byKey[keys[id]] = append(byKey[keys[id]], id)
		}
	}
	if len(p.byID) != len(model) || p.blocked.counted != blocked || p.later != later || p.waiting != waiting || len(p.keys) != len(byKey) {
		t.Fatalf("%d entries, %d blocked, %d later, %d keys; want %d, %d, %d, %d",
			len(p.byID), p.blocked.counted, p.later, len(p.keys), len(model), blocked, later, len(byKey))
	}
	for key, want := range byKey {
		var got []int64
		for _, e := range p.keys[keyClass{key: key}] {
			got = append(got, e.id)
		}
		if !slices.Equal(got, want) || p.head(keyClass{key: key}).id != want[0] {
			t.Fatalf("key %s waits for %v, want %v", key, got, want)
		}
	}
}

// What happens to a row between two saves becomes one operation.
func TestParkedOperationsMerge(t *testing.T) {
	p := newParkedSet(1000, true)
	e, message := &entry{id: 1, state: states.Scheduled}, &message.Row{}
	p.add(e)
	p.record(&ParkOp{entry: e, Insert: message})
	p.change(e, states.Retrying, time.Unix(5, 0), "failed")
	if op := p.ops[snapshot.Ident{ID: 1}]; op.Insert != message || op.remove || op.reason != "failed" {
		t.Errorf("insert and update became %+v", op)
	}
	p.remove(e)
	if op := p.ops[snapshot.Ident{ID: 1}]; op != nil {
		t.Errorf("insert, update and remove became %+v", op)
	}

	p.add(e)
	p.change(e, states.Held, time.Time{}, "")
	p.remove(e)
	if op := p.ops[snapshot.Ident{ID: 1}]; op == nil || !op.remove || op.Insert != nil {
		t.Errorf("update and remove became %+v", op)
	}
	if p.knows(snapshot.Ident{ID: 2}) || !p.knows(snapshot.Ident{ID: 1}) || p.head(keyClass{}) != nil {
		t.Error("the set does not know what it is about to change")
	}
}

// What is not in the table yet is not due: its row could not be read.
func TestParkedMustBeDurableToBeDue(t *testing.T) {
	p := newParkedSet(1000, true)
	e := &entry{id: 1, state: states.Retrying, due: time.Unix(5, 0)}
	p.add(e)
	if got := p.nextDue(time.Unix(9, 0)); got != nil {
		t.Errorf("%+v is due", got)
	}
	e.stored = states.Dead
	if got := p.nextDue(time.Unix(9, 0)); got != nil {
		t.Errorf("%+v is due, but the table has it as dead still", got)
	}
	e.stored = states.Retrying
	if got := p.nextDue(time.Unix(4, 0)); got != nil {
		t.Errorf("%+v is due too early", got)
	}
	if got := p.nextDue(time.Unix(5, 0)); got != e {
		t.Errorf("%+v is due, want the entry", got)
	}
}

// A message that was redriven, or that had another priority before, may be older than the one of its key that somebody works on: it waits for that.
func TestOlderMessageWaitsForWhatIsOut(t *testing.T) {
	tr := newTrial(subscription.Settings{Ordering: subscription.OrderByKey, OnDead: subscription.DeadSkips, MaxAttempts: 3, Lanes: 1, Batch: 1, MaxParked: 10, MaxScheduled: 10}, &destination{})
	q := &tr.x.r.retries
	of := keyClass{key: "k"}
	older := &entry{id: 5, keyClass: of, state: states.Held, stored: states.Held, heapIndex: -1}
	out := &entry{id: 6, keyClass: of, state: states.Leased, stored: states.Leased, loan: loan{token: 1, worker: "w"}, heapIndex: -1}
	q.takeInParked([]*entry{older, out}, nil)
	if q.unblock(of); len(q.toLoad) > 0 {
		t.Fatal("the older message goes while the younger one of its key is out")
	}
	if gate := q.gate(&task{key: "k", entry: older}); gate != gateHold {
		t.Errorf("in its lane its gate is %v, want that it is held", gate)
	}
	q.parked.remove(out)
	if q.unblock(of); len(q.toLoad) != 1 || q.toLoad[0] != older {
		t.Errorf("%v are loaded, want the older message, now that its key is free", q.toLoad)
	}
}
