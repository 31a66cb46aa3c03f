// Package torture is a checker: it breaks everything around the real relay, and proves that what Postrider promises holds
// nevertheless. docs/guarantees.md lists the promises.
//
//	producers ──▶ PostgreSQL ◀── link ──▶ relay (a child process) ──▶ NATS, HTTP receivers ──▶ books
//	    │             │                                                                          │
//	    └─ history ───┴── truth: what committed ─────────────────▶ judge ◀───────────────────────┘
//	                                                                 ▲
//	faults ── incidents: what may have been repeated, and when ──────┘
//
// Every round has NATS, HTTP receivers, workers and a database with an inbox. Of the other destinations, each a server of its own with faults of
// its own ([brokerKind]), it has some, which the seed picks: what this machine lacks is left out, and the report says so.
//
// A round ([Run]) starts a world, lets producers write while faults are injected, mends everything, waits until nothing is missing or
// nothing arrives any more, and then checks: what is parked, what the relays' memory and goroutines have come to, a clean stop and
// a start that repeat nothing, slots, registrations, segments. Only then it judges what arrived, message by message.
//
// # Truth
//
// Each transaction of a producer also writes its number into a table. Whatever its producer was told, or was not, the
// transaction committed if its number is there afterwards. What its messages are, the history knows: those of savepoints that were rolled
// back are not among them. Where a standby has replaced the primary, what the standby holds is the truth.
//
// # Order
//
// A key belongs to one producer, which waits for each of its transactions and gives the key up if an answer was lost; or several
// producers share it and take turns by the lock of a row. So messages of a key have numbers, and a message is out of order
// if it is offered before all with lower numbers have been accepted.
//
// # Around jobs
//
// Triggers keep a ledger ([ledgerSchema]), in the transactions in which things happen: what the log held on topics that no producer numbers, what was
// done to schedules, which results were kept, what died, came back or was cancelled, and by which chunk of an operation. What is in it has
// happened, whatever anybody was told, and after a failover it is what the standby has. The verdicts are made of it alone, by models of their own:
// schedules.go, unique.go, results.go, events.go, operations.go.
//
// # Repeats
//
// Every fault says for whom it may cause repeated deliveries. A repeat is excused if the message was accepted during such an incident, or
// not longer before it than a save may take; any other is a violation. Stopping a relay in order excuses nothing.
//
// # Chance
//
// All that is drawn comes from the seed, one source for each purpose. The same seed repeats a round's set-up, its faults and their
// order, but not its timing.
package torture
