package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ledger is the demo's own account of what committed, what rolled back and who saw what. It takes nothing from Postrider
// but the id that each receiver was handed. Its methods may be called concurrently.
type ledger struct {
	mu         sync.Mutex
	committed  map[int64]entry
	rolledBack map[int64]bool
	excused    map[int64]bool        // dead letters that were redriven: their key went on without them
	sightings  map[string][]sighting // by subscription, in the order of arrival
}

// entry is a committed message.
type entry struct {
	topic, key string
	// due is when it may be delivered: when COMMIT returned, or later if it is scheduled.
	due       time.Time
	scheduled bool
}

// sighting is an attempt as the receiver saw it.
type sighting struct {
	id       int64
	accepted bool
	at       time.Time
}

func newLedger() *ledger {
	return &ledger{committed: map[int64]entry{}, rolledBack: map[int64]bool{}, excused: map[int64]bool{}, sightings: map[string][]sighting{}}
}

// settle enters what a transaction did: kept is nil if all of it rolled back.
func (l *ledger) settle(kept map[int64]entry, undone []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.committed, kept)
	for _, id := range undone {
		l.rolledBack[id] = true
	}
}

// saw enters that a receiver accepted a message, or turned it away, so that another attempt is needed.
func (l *ledger) saw(subscription string, id int64, accepted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sightings[subscription] = append(l.sightings[subscription], sighting{id, accepted, time.Now()})
}

// excuse takes a message out of the check of order and out of the delays.
func (l *ledger) excuse(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.excused[id] = true
}

// totals returns how many messages committed and how many rolled back.
func (l *ledger) totals() (committed, rolledBack int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.committed), len(l.rolledBack)
}

// tally is what the ledger says about one subscription, in messages.
type tally struct {
	committed, delivered int
	twice                int // accepted more than once
	retried              int // turned away at least once
	ghosts               int // seen, but rolled back
	strangers            int // seen, but not of this demo (or its COMMIT has not returned yet)
	disordered           int // seen after a later message of the same key
	p50, p99             time.Duration
}

// tally adds up one subscription; delays are those of messages that arrived at since or later.
func (l *ledger) tally(subscription string, wants func(topic string) bool, since time.Time) (t tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.committed {
		if wants(e.topic) {
			t.committed++
		}
	}
	var delays []time.Duration
	seen, retried, last := map[int64]bool{}, map[int64]bool{}, map[string]int64{}
	for _, s := range l.sightings[subscription] {
		e, known := l.committed[s.id]
		switch {
		case l.rolledBack[s.id]:
			t.ghosts++
			continue
		case !known || !wants(e.topic):
			t.strangers++
			continue
		case !s.accepted:
			retried[s.id] = true
			continue
		case seen[s.id]:
			t.twice++
			continue
		}
		seen[s.id] = true
		if l.excused[s.id] {
			continue
		}
		if !s.at.Before(since) {
			// A receiver may be faster than the news of the COMMIT.
			delays = append(delays, max(0, s.at.Sub(e.due)))
		}
		if e.key == "" || e.scheduled {
			continue
		}
		if s.id < last[e.key] {
			t.disordered++
		}
		last[e.key] = max(last[e.key], s.id)
	}
	slices.Sort(delays)
	t.delivered, t.retried = len(seen), len(retried)
	t.p50, t.p99 = percentile(delays, 50), percentile(delays, 99)
	return t
}

// percentile returns the smallest value that at least p percent of the sorted values do not exceed, 0 if there is none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// rowID returns the outbox row that an id on the wire speaks of (source id, row id and time of creation, joined by dashes),
// or 0, the id of no row.
func rowID(wire string) int64 {
	parts := strings.Split(wire, "-")
	if len(parts) != 3 {
		return 0
	}
	// On an error it is 0.
	id, _ := strconv.ParseInt(parts[1], 10, 64)
	return id
}
