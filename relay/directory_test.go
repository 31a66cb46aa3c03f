package relay

import (
	"testing"
	"time"
)

// A relay is certain for a lease, counted from before it asked, and not a moment longer; one that is not registered never.
func TestConfirmedForALease(t *testing.T) {
	r, g := new(Relay), new(generation)
	if r.Confirmed() {
		t.Error("a relay that is not registered is certain")
	}
	r.now.Store(g)
	if r.Confirmed() {
		t.Error("a relay that has not looked is certain")
	}
	g.polls.confirm(time.Now(), time.Hour)
	if !r.Confirmed() {
		t.Error("a relay that has just looked is not certain")
	}
	g.polls.confirm(time.Now().Add(-time.Hour), time.Hour)
	if r.Confirmed() {
		t.Error("a relay is certain after its lease")
	}
}

// However often a name that nobody knows is asked for, the database is looked at sooner for it once a second.
func TestUnknownNamesMakeNoLoad(t *testing.T) {
	var p polls
	now, looks := time.Now(), 0
	for range 5000 { // every millisecond
		if p.mayLookSooner(now) {
			looks++
		}
		now = now.Add(time.Millisecond)
	}
	if looks != 5 {
		t.Errorf("%d looks in five seconds, want 5", looks)
	}
}
