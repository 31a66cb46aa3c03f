package torture

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Expectation is what one subscription must have got by the end.
type Expectation struct {
	Name    string
	Matches func(Message) bool
	// Unordered: the destination promises no order within a key, or the subscription asked for none.
	Unordered bool
	// Holds: a poison message holds its key, so that what follows it never arrives.
	Holds bool
	// Once: the destination drops what it has seen, so nothing may ever be there twice.
	Once bool
	// Logged: what it must have got is what the log held.
	Logged bool
	// Late is how long after its cancellation a message may still come: it was on its way.
	Late time.Duration
}

// evidence is all that a verdict rests on.
type evidence struct {
	truth     *truth
	incidents []Incident
	// until is when it was last waited for that all arrives.
	until time.Time
	// reach is how long before an incident a delivery may have been accepted without being saved.
	reach time.Duration
}

// finding is the verdict on one subscription.
type finding struct {
	subscription             string
	expected, repeated, dead int
	cancelled                int
	longest                  time.Duration // from COMMIT to the first acceptance
	latencies                []time.Duration
	violations               []string
}

func (f *finding) violate(format string, args ...any) {
	f.violations = append(f.violations, f.subscription+": "+fmt.Sprintf(format, args...))
}

// judge compares what arrived with what should have.
func (e *evidence) judge(x Expectation, arrivals []Arrival) *finding {
	f := &finding{subscription: x.Name}
	wanted := e.wanted(x)
	f.expected = len(wanted)
	first := e.firsts(arrivals)
	e.judgeLost(f, x, wanted, first, arrivals)
	e.judgeStrangers(f, x, wanted, arrivals)
	e.judgeCancelled(f, x, arrivals)
	e.judgeIDs(f, arrivals)
	e.judgeRepeats(f, x, arrivals)
	if !x.Unordered {
		e.judgeOrder(f, wanted, arrivals)
	}
	return f
}

// wanted returns the committed messages that match, and were not cancelled.
func (e *evidence) wanted(x Expectation) map[int64]Message {
	wanted := make(map[int64]Message)
	for id, m := range e.truth.messages {
		if _, gone := e.truth.cancelled[x.Name][id]; x.Matches(m) && !gone {
			wanted[id] = m
		}
	}
	return wanted
}

// firsts returns when each message was accepted first.
func (e *evidence) firsts(arrivals []Arrival) map[int64]time.Time {
	first := make(map[int64]time.Time)
	for _, a := range arrivals {
		if _, ok := first[a.ID]; !ok && a.Accepted {
			first[a.ID] = a.At
		}
	}
	return first
}

// judgeLost finds messages that never arrived, and measures how long the others took.
func (e *evidence) judgeLost(f *finding, x Expectation, wanted map[int64]Message, first map[int64]time.Time, arrivals []Arrival) {
	held := heldKeys(x, wanted)
	var lost []Message
	for id, m := range wanted {
		at, arrived := first[id]
		order, isHeld := held[m.Key]
		switch {
		case isHeld && m.Order > order:
			if arrived {
				f.violate("%s was delivered although a dead letter holds its key; %s", m, e.story(m.Key, wanted, arrivals))
			}
		case m.Poison && arrived:
			f.violate("%s was accepted although every receiver refuses it", m)
		case m.Poison:
			f.dead++
		case !arrived:
			lost = append(lost, m)
		default:
			latency := at.Sub(e.truth.ended[id])
			f.latencies = append(f.latencies, latency)
			f.longest = max(f.longest, latency)
		}
	}
	if x.Logged { // schedules and events go on while nothing is waited for any more
		lost = slices.DeleteFunc(lost, func(m Message) bool { return e.truth.ended[m.ID].After(e.until) })
	}
	slices.SortFunc(lost, func(a, b Message) int { return cmp.Compare(a.ID, b.ID) })
	for _, m := range lost {
		f.violate("lost: %s", m)
	}
}

// heldKeys returns the order of the first poison message of each key that it holds.
func heldKeys(x Expectation, wanted map[int64]Message) map[string]int64 {
	held := make(map[string]int64)
	for _, m := range wanted {
		if order, ok := held[m.Key]; x.Holds && m.Poison && m.Key != "" && (!ok || m.Order < order) {
			held[m.Key] = m.Order
		}
	}
	return held
}

// judgeStrangers finds deliveries of what rolled back or was not asked for.
func (e *evidence) judgeStrangers(f *finding, x Expectation, wanted map[int64]Message, arrivals []Arrival) {
	told := make(map[int64]bool)
	for _, a := range arrivals {
		_, cancelled := e.truth.cancelled[f.subscription][a.ID]
		if _, ok := wanted[a.ID]; ok || told[a.ID] || cancelled {
			continue
		}
		told[a.ID] = true
		if m, ok := e.truth.messages[a.ID]; ok {
			f.violate("delivered, but the topics do not match: %s", m)
		} else if !e.truth.vanished[a.ID] && !(x.Logged && e.truth.replaced) {
			f.violate("delivered, but rolled back: message %s", idString(a.ID))
		}
	}
}

// judgeIDs finds messages that changed their id between attempts, and ids that two messages share.
func (e *evidence) judgeIDs(f *finding, arrivals []Arrival) {
	before, owner := make(map[int64]Arrival), make(map[string]int64)
	for _, a := range arrivals {
		if b, ok := before[a.ID]; ok && b.Wire != a.Wire && !e.enqueuedAgain(b, a) {
			f.violate("message %s came as %s and as %s", idString(a.ID), b.Wire, a.Wire)
		}
		if other, ok := owner[a.Wire]; ok && other != a.ID {
			f.violate("messages %s and %s came with the same id %s", idString(other), idString(a.ID), a.Wire)
		}
		before[a.ID], owner[a.Wire] = a, a.ID
	}
}

// enqueuedAgain reports whether a message may have another id now: a duplicate that was enqueued because the message before it was
// delivered, and delivered itself, is enqueued once more if a standby that had none of this took the primary's place.
func (e *evidence) enqueuedAgain(before, now Arrival) bool {
	duplicate := slices.ContainsFunc(e.truth.calls, func(c uniqueCall) bool { return c.id == now.ID && c.duplicate })
	return duplicate && e.truth.replaced && slices.ContainsFunc(e.incidents, func(i Incident) bool {
		return i.Fault == "promote" && before.At.Before(i.To.Add(moment)) && now.At.After(i.From)
	})
}

// judgeRepeats counts deliveries of what was accepted before, and finds those that no incident excuses.
func (e *evidence) judgeRepeats(f *finding, x Expectation, arrivals []Arrival) {
	last := make(map[int64]time.Time)
	used := make(map[replayed]bool)
	for _, a := range arrivals {
		before, seen := last[a.ID]
		if a.Accepted {
			last[a.ID] = a.At
		}
		if !seen {
			continue
		}
		f.repeated++
		excused := slices.ContainsFunc(e.incidents, func(i Incident) bool { return i.mayRepeat(x.Name, before, e.reach) })
		if x.Once || !excused && !e.replayedOnce(x.Name, a, used) {
			f.violate("repeated: message %s, accepted at %s, again at %s; nothing that was done explains it",
				idString(a.ID), clock(before), clock(a.At))
		}
	}
}

// replayed is a message that came again because of a replay.
type replayed struct{ id, incident int64 }

// replayedOnce reports whether a replay from before excuses this delivery, each one once for a message: what was parked comes when
// its retry is due, and again when the replay has come to it.
func (e *evidence) replayedOnce(subscription string, a Arrival, used map[replayed]bool) bool {
	for n, i := range e.incidents {
		this := replayed{a.ID, int64(n)}
		if i.Replays && !used[this] && i.From.Before(a.At) && (slices.Contains(i.Repeats, "*") || slices.Contains(i.Repeats, subscription)) {
			used[this] = true
			return true
		}
	}
	return false
}

// judgeOrder finds messages that arrived before an earlier one of their key had been accepted.
func (e *evidence) judgeOrder(f *finding, wanted map[int64]Message, arrivals []Arrival) {
	keys := make(map[string][]Message)
	for _, m := range wanted {
		if m.Key != "" && !m.Poison { // poison is dead before its key goes on, which judgeLost sees
			keys[m.line()] = append(keys[m.line()], m)
		}
	}
	place := make(map[int64]int, len(wanted))
	for _, messages := range keys {
		slices.SortFunc(messages, func(a, b Message) int { return cmp.Compare(a.Order, b.Order) })
		for i, m := range messages {
			place[m.ID] = i
		}
	}
	next := make(map[string]int, len(keys)) // how many of the key were accepted, in order
	for _, a := range arrivals {
		i, ok := place[a.ID]
		if !ok {
			continue
		}
		m := wanted[a.ID]
		if i > next[m.line()] {
			if !slices.ContainsFunc(e.incidents, func(i Incident) bool { return i.mayReorder(a.At) }) {
				f.violate("out of order: %s came at %s before %s", m, clock(a.At), keys[m.line()][next[m.line()]])
			}
			next[m.line()] = i // tell of each gap once
		}
		if a.Accepted && i == next[m.line()] {
			next[m.line()]++
		}
	}
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
