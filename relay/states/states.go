package states

import (
	"fmt"
	"slices"
	"strings"
)

// The states' names, as the column state has them.
const (
	Retrying  = "retrying"
	Held      = "held"
	Scheduled = "scheduled"
	Leased    = "leased"
	Failed    = "failed"
	Completed = "completed"
	Dead      = "dead"
	Discarded = "discarded"
	Cancelled = "cancelled"
)

// Delivered is the status of what is settled well.
const Delivered = "delivered"

// owner is who may change a parked delivery.
type owner int

// Who may change it. Commands may, too, as Redrive and Discard say.
const (
	relay    owner = iota // the owner of its cursor, which delivers it when its time comes
	receiver              // its receiver, by a callback, until the lease is over; then the relay
	called                // the relay, to conclude what the receiver said: not to lease it again
	command               // a command alone
)

// Due is what the column due means.
type Due int

// What due is.
const (
	noDue    Due = iota // nothing
	DueTry              // when it is delivered
	dueLease            // when its lease ends
	dueAgain            // when it may be delivered again; without one it is to be dead
	dueKept             // when it was scheduled for, if it was
)

// State is one row of the table.
type State struct {
	Name   string
	status string // what deliveries shows it as, and which column of subscription_status counts it, if there is one
	owner  owner
	Due    Due
	Blocks bool // its key waits for it (for a dead one with on_dead: hold, or until it is durable)
	Counts bool // it counts towards max_parked
	// Redrive and Discard say whether these commands change it when they are given its id.
	Redrive, Discard bool
	Over             bool   // nothing comes after it by itself: it is removed after its retention
	Meaning          string // for people
}

var table = []State{
	{Name: Retrying, status: Retrying, owner: relay, Due: DueTry, Blocks: true, Counts: true, Redrive: true, Discard: true,
		Meaning: "failed, and is tried again when due"},
	{Name: Held, status: Held, owner: relay, Due: dueKept, Blocks: true, Counts: true, Discard: true,
		Meaning: "waits behind another message of its key"},
	{Name: Scheduled, status: Scheduled, owner: relay, Due: DueTry, Discard: true,
		Meaning: "is delivered when due"},
	{Name: Leased, status: Leased, owner: receiver, Due: dueLease, Blocks: true, Counts: true, Redrive: true, Discard: true,
		Meaning: "was taken by its receiver, which will call back, or is with a worker, and then counts towards nothing; is delivered again when due, the end of its lease"},
	{Name: Failed, status: Retrying, owner: called, Due: dueAgain, Blocks: true, Counts: true, Redrive: true, Discard: true,
		Meaning: "the receiver called back that it failed; is about to become retrying or dead"},
	{Name: Completed, status: Delivered, owner: called, Blocks: true, Counts: true,
		Meaning: "the receiver called back that it is done; is about to leave this list"},
	{Name: Dead, status: Dead, owner: command, Blocks: true, Redrive: true, Discard: true, Over: true,
		Meaning: "was given up: redrive or discard it"},
	{Name: Discarded, status: Discarded, owner: command, Redrive: true, Over: true,
		Meaning: "was given up for good"},
	{Name: Cancelled, status: Cancelled, owner: command, Blocks: true, Over: true,
		Meaning: "was not wanted any more, and is never delivered"},
}

// All returns the table.
func All() []State { return slices.Clone(table) }

// Of returns the state of this name. There is no other.
func Of(name string) State {
	for _, s := range table {
		if s.Name == name {
			return s
		}
	}
	panic(fmt.Sprintf("state %q: there is no such state", name))
}

// StatusOf is what deliveries shows a state as.
func StatusOf(state string) string {
	for _, s := range table {
		if s.Name == state {
			return s.status
		}
	}
	return state
}

// Statuses are what deliveries shows parked messages as that are not settled well.
func Statuses() (names []string) {
	for _, s := range table {
		if s.status != Delivered && !slices.Contains(names, s.status) {
			names = append(names, s.status)
		}
	}
	return names
}

// Names lists those for which is says so, in the table's order; all for nil.
func Names(is func(State) bool) (names []string) {
	for _, s := range table {
		if is == nil || is(s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// SQL is Names as a list for IN (…).
func SQL(is func(State) bool) string { return "'" + strings.Join(Names(is), "', '") + "'" }

// Loadable says that a relay may take the message from its row and deliver it.
func (s State) Loadable() bool { return s.owner == relay }

// CalledBack says that a receiver's callback has made it so.
func (s State) CalledBack() bool { return s.owner == called }

var (
	owners = map[owner]string{relay: "the relay", receiver: "its receiver; the relay when the lease is over", called: "the relay, to conclude it", command: "a command"}
	dues   = map[Due]string{noDue: "", DueTry: "when it is tried", dueLease: "the end of its lease", dueAgain: "when it may be tried again", dueKept: "when it was scheduled for"}
)

// markdown is the table for the documentation.
func markdown() string {
	var b strings.Builder
	b.WriteString("| state | meaning | shown as | changed by | due | its key waits | counts towards `max_parked` | redrive | discard |\n|---|---|---|---|---|---|---|---|---|\n")
	yes := map[bool]string{true: "yes"}
	for _, s := range table {
		blocks := yes[s.Blocks]
		switch s.Name {
		case Dead:
			blocks = "with `on_dead: hold`"
		case Cancelled:
			blocks = "" // only until it is durable
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s | %s | %s | %s | %s |\n", s.Name, s.Meaning, s.status, owners[s.owner], dues[s.Due],
			blocks, yes[s.Counts], yes[s.Redrive], yes[s.Discard])
	}
	return b.String()
}
