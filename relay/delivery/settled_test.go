package delivery

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/sinks"
)

// What is being cancelled is not loaded for delivery, though the table still has it as it was.
func TestCancelledHeadIsNotLoaded(t *testing.T) {
	for state, loads := range map[string]int{states.Cancelled: 0, states.Dead: 0, states.Leased: 0, states.Held: 1} {
		r := newClassRunner(nil, 1, 1)
		key := keyClass{key: "k", class: 1}
		r.retries.parked.add(&entry{id: 1, keyClass: key, state: state, stored: states.Held})
		if r.retries.unblock(key); len(r.retries.toLoad) != loads {
			t.Errorf("%s: %d are loaded, want %d", state, len(r.retries.toLoad), loads)
		}
	}
}

// A delivery that was leased and accepted before the runner has heard of either is accepted. Any other end, and a callback's lease of the
// same number, leave it leased.
func TestLeasedAndAcceptedIsAccepted(t *testing.T) {
	ends := []leaseEnd{{7, nil}, {8, sinks.Failed(errSim, 0)}, {9, sinks.Accepted([]byte("1"))}}
	for token, want := range map[int64]sinks.Kind{6: sinks.KindLeased, 7: sinks.KindAccepted, 8: sinks.KindLeased, 9: sinks.KindAccepted} {
		l := &lane{outcomes: []error{sinks.LeasedTo("worker", time.Second, token, nil)}}
		l.settled(ends)
		if got, _ := sinks.Classify(l.outcomes[0]); got != want {
			t.Errorf("token %d: %v, want %v", token, got, want)
		}
	}
	l := &lane{outcomes: []error{sinks.Leased(time.Second, 7)}}
	l.settled(ends)
	if got, _ := sinks.Classify(l.outcomes[0]); got != sinks.KindLeased {
		t.Errorf("a callback's lease: %v", got)
	}
}
