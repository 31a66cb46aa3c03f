// Package delivery delivers one subscription: it takes messages in, hands them to the sink and decides what becomes of them.
//
//	         ┌────────── queue refused a message, or the pass was long ──────────┐
//	         ▼                                                                   │
//	start ─▶ pass over the table ─▶ attach: queue from the next closed snapshot, │
//	         (base → target)        a last pass up to it ─▶ live ────────────────┘
//
//	intake ──▶ lanes ──▶ sink ──▶ outcome ──▶ action ──▶ settled, or an exception ──▶ save
//	   ▲         ▲                                             │
//	 queue,      └───────────── retries ◀──────────────────────┘
//	 pass                    (parked rows)
//
// A Runner is one goroutine that owns all of its state and never waits; step does what can be done now, with the time as a parameter,
// and the model of histories drives it as it is. Its lanes, one goroutine each, wait for the sink. Where the sink is a sinks.Sender, each key
// that something waits or is out of has a lane, and each message without a key: without a goroutine, since a sender tells when a delivery has
// ended. Its parts have their own state:
//
//	intake     where its messages come from, and how far the cursor has come; with priorities there is one for each class
//	lanes      what waits to be delivered, by key, and what is out
//	retries    parked deliveries: due, scheduled, held behind others of their keys
//	breaker    whether the destination is down, and what is known of messages that fail
//	report     what is told of it: trouble, dead letters, the cursor as it was saved last
//
// # Terms
//
//	task       a message on its way through a lane
//	entry      a parked delivery as its runner remembers it; the message itself is in the table
//	suspect    a task that failed when nothing said whether the message or the destination is to blame
//	probe      a delivery that asks whether the destination is back; a round is some of them at about the same time
//	withheld   too large, or not known to be small: the message is read by itself when its turn comes
//
// # Classes
//
// A subscription with priorities has a cursor for each, and an intake with its own queue, passes and share of memory, so that a backlog keeps
// no urgent message out. All share the lanes: each takes from the first class that has something, and one task of a class that was not served
// for a minute. Order holds within a key's messages of one class; across classes at most one of a key is out, in a lane or leased. When
// priorities are turned off, the runner brings all classes to one snapshot and ends there: its successor has one cursor.
//
// # Outcomes
//
// A sink classifies (package sinks), and the table at situation.action says what follows. In short:
//
//	accepted      settled: counted off the pass or the window that it came from
//	leased        parked until its callback comes or its lease is over; or until a sink that leases by itself (sinks.Lessor) says what came of it
//	snoozed       parked until the time that was asked for; like released, which goes back to its lane, it costs no attempt
//	failed, lost  parked for a retry; the destination works
//	retryable     parked with a copy of the message; backoff; dead after max_attempts
//	permanent     dead at once
//	unavailable   the breaker opens, unless others get through: the cursor stays, and rounds of probes go through all that waits
//	misconfigured as unavailable; what is told of it says that somebody has to change something
//	gone          the subscription is paused
//
// # Invariants
//
//   - A key hashes to one lane, or has one, and a batch holds one message per key at most: messages of a key are delivered in order.
//   - A message behind a parked one of its key becomes an exception too (held). A key goes on after a dead letter, and after anything
//     else that explains a gap in it, only when that is durable.
//   - What the table has of an entry is remembered from answers of saves alone. An entry with a change that is not saved, or whose save is
//     not answered yet, is not loaded.
//   - A destination counts as down only while nothing gets through, and then next to nothing is parked.
//   - Intake is bounded: in messages, in bytes as they are in memory, in ids settled beyond the rest, in parked and scheduled messages.
//
// # When something fails
//
//	the queue refuses a message    what is under way is finished, and a pass reads the table from the base
//	a page is cut off              the next attempt returns half as much and looks at half as much
//	rows cannot be read together   the page is read by its heads, and each message by itself when its turn comes
//	a message cannot be read       it is a dead letter with the reason, or retried if reading it again may help
//	the database is away           reading is repeated; deliveries under way go on; nothing is concluded that needs a save
//	the cursor is lost             the runner is abandoned: nothing more is delivered or saved
//	the runner stops               what is out is handed over as leased, or waited for, then given up; the last save leaves nothing to repeat
package delivery
