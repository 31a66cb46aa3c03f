package torture

import (
	"slices"
	"time"
)

// Incident is a fault that was injected.
type Incident struct {
	Fault    string
	From, To time.Time
	Hits     target
	// Repeats says for which subscriptions it may cause repeated deliveries: those that it names, "*" for all.
	Repeats []string
	// Replays says that they may be of any time before.
	Replays bool
	// Reorders says that keys may be out of order while it lasts, and a moment longer.
	Reorders bool
}

// moment is how long the consequences of an incident may be seen after its end.
const moment = 2 * time.Second

// mayReorder reports whether the incident excuses that a message of this time was out of order.
func (i Incident) mayReorder(at time.Time) bool {
	return i.Reorders && !at.Before(i.From) && !at.After(i.To.Add(moment))
}

// mayRepeat reports whether the incident excuses that a delivery accepted at this time was repeated. What was accepted
// longer before it than one save may take was saved and must not come again, unless that was asked for.
func (i Incident) mayRepeat(subscription string, accepted time.Time, reach time.Duration) bool {
	return (slices.Contains(i.Repeats, "*") || slices.Contains(i.Repeats, subscription)) &&
		(i.Replays || !accepted.Before(i.From.Add(-reach))) && !accepted.After(i.To.Add(reach))
}
