package main

import (
	"strings"
	"testing"
	"time"
)

func anything(string) bool { return true }

func commit(l *ledger, id int64, topic, key string) {
	l.settle(map[int64]entry{id: {topic: topic, key: key, due: time.Now()}}, nil)
}

func see(l *ledger, ids ...int64) {
	for _, id := range ids {
		l.saw("s", id, true)
	}
}

func TestTallyTellsWhatWentWrong(t *testing.T) {
	setUp := func() *ledger {
		l := newLedger()
		for id := int64(1); id <= 3; id++ {
			commit(l, id, "orders.placed", "a")
		}
		commit(l, 4, "orders.placed", "b")
		l.settle(map[int64]entry{5: {topic: "orders.review", key: "a", due: time.Now(), scheduled: true}}, []int64{6})
		commit(l, 7, "payments.captured", "a")
		return l
	}
	orders := func(topic string) bool { return strings.HasPrefix(topic, "orders.") }
	for _, c := range []struct {
		name string
		seen []int64
		want tally
	}{
		{"nothing seen", nil, tally{committed: 5}},
		{"all is well", []int64{1, 4, 2, 3, 5}, tally{committed: 5, delivered: 5}},
		{"keys are independent", []int64{4, 1, 2, 3}, tally{committed: 5, delivered: 4}},
		{"a scheduled message has no place in the order", []int64{5, 1, 2, 3}, tally{committed: 5, delivered: 4}},
		{"order of a key", []int64{2, 1, 3}, tally{committed: 5, delivered: 3, disordered: 1}},
		{"two behind a later one", []int64{3, 1, 2}, tally{committed: 5, delivered: 3, disordered: 2}},
		{"a repeated suffix is no disorder", []int64{1, 2, 3, 2, 3}, tally{committed: 5, delivered: 3, twice: 2}},
		{"rolled back", []int64{6}, tally{committed: 5, ghosts: 1}},
		{"never enqueued", []int64{99}, tally{committed: 5, strangers: 1}},
		{"another's topic", []int64{7}, tally{committed: 5, strangers: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := setUp()
			see(l, c.seen...)
			if got := l.tally("s", orders, time.Now().Add(time.Hour)); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestTallyExcusesWhatWasRedriven(t *testing.T) {
	l := newLedger()
	for id := int64(1); id <= 3; id++ {
		commit(l, id, "t", "k")
	}
	l.saw("s", 1, false)
	l.saw("s", 1, false)
	l.excuse(1)
	see(l, 2, 3, 1)
	want := tally{committed: 3, delivered: 3, retried: 1}
	if got := l.tally("s", anything, time.Now().Add(time.Hour)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTallySeesBeforeTheCommitReturned(t *testing.T) {
	l := newLedger()
	see(l, 1)
	if got := l.tally("s", anything, time.Time{}); got.strangers != 1 {
		t.Errorf("before: %+v, want one stranger", got)
	}
	commit(l, 1, "t", "")
	got := l.tally("s", anything, time.Time{})
	if got.delivered != 1 || got.strangers != 0 || got.p50 != 0 {
		t.Errorf("after: %+v, want one delivery with no delay", got)
	}
}

func TestTallyCountsDelaysSince(t *testing.T) {
	l := newLedger()
	start := time.Now()
	l.settle(map[int64]entry{1: {due: start}, 2: {due: start}}, nil)
	l.sightings["s"] = []sighting{{1, true, start.Add(time.Second)}, {2, true, start.Add(3 * time.Second)}}
	if got := l.tally("s", anything, start); got.p50 != time.Second || got.p99 != 3*time.Second {
		t.Errorf("all: p50 %v, p99 %v", got.p50, got.p99)
	}
	if got := l.tally("s", anything, start.Add(2*time.Second)); got.p50 != 3*time.Second {
		t.Errorf("recent: p50 %v", got.p50)
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, c := range []struct {
		values []time.Duration
		p      int
		want   time.Duration
	}{
		{nil, 50, 0}, {hundred[:1], 1, 1}, {hundred[:1], 99, 1}, {hundred[:2], 50, 1}, {hundred[:2], 51, 2},
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred[:10], 99, 10},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %d of %d values: got %d, want %d", c.p, len(c.values), got, c.want)
		}
	}
}

func TestRowID(t *testing.T) {
	if id := rowID("0a1b2c3d-42-1700000000000000"); id != 42 {
		t.Errorf("got %d, want 42", id)
	}
	for _, bad := range []string{"", "42", "a-b-c", "a-42", "a-1-2-3"} {
		if id := rowID(bad); id != 0 {
			t.Errorf("%q: got %d, want 0", bad, id)
		}
	}
}
