// Package relay is the engine: it follows postrider.outbox and delivers every committed message, at least once, to every
// subscription whose topics match. It knows no HTTP, no NATS and no configuration files.
//
//	   COMMIT                                      ┌─ queue ─▶ runner ─▶ lanes ─▶ sink
//	     │           ┌─ backlog ┐                  │            ▲  │
//	     ▼            │         ▼                  │            │  └ outcomes
//	the table ─▶ stream      feed ── dispatch ─────┼─ queue ─▶ runner ─▶ …
//	     │                      ▲                  │            ▲
//	     ├──── ticks, audits ───┘                  └─ …         │
//	     └──── pages ──────────────────────────────── pass ─────┘
//
//	cursors, parked  ◀── saver ◀── progress and exceptions of all runners, one statement
//
// # The log, windows and ticks
//
// Every row stores its transaction id. For two snapshots of one primary, B after A, the window (A, B] is what B sees and A
// does not: successive windows are gap-free and disjoint, whatever order transactions commit in. The feed takes a snapshot
// at every tick and dispatches what it newly covers. A tick is caused by the stream (logical replication on a temporary
// slot), by LISTEN, or by a timer.
//
// While it follows the stream, a tick costs one statement that reads no row: decoded transactions wait in the backlog until
// a snapshot sees them, then dispatched in commit order. A few times a second a tick is closed by an audit: rows are counted per
// transaction in the table and compared with what was dispatched. What is missing is read from the table. After a gap (a
// start, a reconnect, an overflow, a mismatch) ticks read the table until every transaction that ran at the first tick
// after it has ended and the stream has passed that tick. Correctness never rests on the stream.
// Package feed has its states, and what happens on each failure.
//
// # A subscription's runner
//
// A runner makes passes over the table until the present is near, then attaches to the feed and is live. Whatever goes wrong with its
// queue has one answer: finish what is under way, and read the table again. Package delivery has its parts, the outcomes, and what
// happens on each failure.
//
// # Progress
//
// A cursor is a base snapshot, of the pass under way a target and the id that it has come to, and the ids settled beyond.
// The base becomes a closed snapshot once nothing that it sees is unsettled. The saver writes all cursors and all changes to
// parked rows in one statement, fenced by each cursor's epoch: a relay that has lost a cursor can write nothing for it.
//
// Who delivers what, all relays compute from one table, each by itself: package balance spreads the cursors with the fewest hand-overs.
//
// # Invariants
//
//   - A committed message is delivered to every matching subscription, or is visible as dead with its reason.
//   - Nothing is delivered before it is visible to others, nothing that was rolled back ever.
//   - Only a closed snapshot becomes a base, and only after all that it sees is settled or durably parked.
//   - A snapshot in memory is used only while this relay's row in the UNLOGGED table postrider.relays exists: PostgreSQL
//     empties it after a crash or a failover, after which transaction ids may be handed out again.
//   - Memory is counted in bytes as they are there, before they are: small rows in shares, large ones by claims (delivery/room.go).
//   - No subscription waits for another: queues refuse instead of blocking, passes and memory are shared fairly.
//
// # When something fails
//
//	the relay is killed            another, or the next, takes its cursors over after the lease and reads from them
//	the database is unreachable    the feed reconnects, saves are repeated; deliveries under way go on; one line tells it, one its end
//	a page is cut off              the next attempt returns half as much and looks at half as much; a window: runners read pages instead
//	one cursor cannot be saved     the others are; it is tried again with the next save
//	a server is a standby          no connection is made to it: a primary is waited for
//	a pooler is in between         no statement is prepared if it gives connections out by the transaction, and ticks read the table
//	the server crashed             the relay drops everything, registers anew and reloads its cursors
//	the stream breaks              ticks read the table
//	the producers outrun it        the slot is dropped and ticks read the table: for some minutes at most, or until there is less to do
//	an old transaction pins WAL    the slot is dropped until that has ended
//	this relay lacks a secret      it leaves that subscription to others, says why in its row, and tries again from time to time
//	no relay can deliver it        the subscription stays active; none is ready until one can
//	a row cannot be read           it becomes a dead letter of those who want it, when its turn comes: see delivery/withheld.go
//	a destination is down          its runner probes; its queue overflows, and a pass catches up later
package relay
