package delivery

import (
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/states"
)

// Retries without a key go before what has not been tried, and take turns: one that fails at once, again and again, keeps no other waiting.
func TestRetriesTakeTurns(t *testing.T) {
	r := newClassRunner(nil, 1, 1)
	l, now := r.lanes.all[0], time.Unix(1_800_000_000, 0)
	retry := func(id int64) *task {
		row := &message.Row{}
		row.ID = id
		return &task{row: row, in: r.retries.intakeOf(1), entry: &entry{state: states.Retrying, keyClass: keyClass{class: 1}}}
	}
	r.offer(1, "", 8, 9)
	for id := range int64(3) {
		r.enqueue(retry(id))
	}
	var got []int64
	for range 6 { // each fails and is due again before the next is sent
		id := r.formed(l, now)[0]
		got = append(got, id)
		r.enqueue(retry(id))
	}
	if want := []int64{0, 1, 2, 0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("tried %v, want %v", got, want)
	}
	r.form(l, 1, now)
	back := slices.Clone(l.batch)
	r.lanes.putBack(l, back)
	var fresh []*task
	for _, task := range r.lanes.free.byClass[0] {
		if task.entry == nil {
			fresh = append(fresh, task)
		}
	}
	r.lanes.free.remove(fresh[0])
	r.lanes.putBack(l, fresh[:1]) // a suspect comes back: what is retried does not wait behind it
	r.enqueue(retry(3))
	for got = got[:0]; r.lanes.free.n > 0; {
		got = append(got, r.formed(l, now)...)
	}
	if want := []int64{0, 1, 2, 3, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("tried %v, want %v", got, want)
	}
}
