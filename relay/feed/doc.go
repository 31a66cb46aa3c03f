// Package feed finds newly committed messages and hands them to the live runners' queues.
//
//	           Begin ──▶ Ask ──▶ Put ──▶ Took ─┐
//	             ▲       │ a session answers   │ until the Ask is Over; then Wait, or a wake-up
//	             └───────┴─────────────────────┘
//	Backlog ──▶ core: what to ask, what to dispatch, when to close ──▶ queues of those whose topics match
//	   ▲                                                           ──▶ News: log, metrics, Streamer
//	Streamer: whether there is a stream
//
// The core is a step machine: no I/O, no clock, no goroutine, no chance. A Feed drives it, with a session of the server and the time;
// tests drive the same one with models of both.
//
// # Terms
//
//	snapshot    what a tick sees; a closed one is that of which all has been dispatched
//	window      what one snapshot sees and the closed one before it does not
//	backlog     what the stream has brought and no snapshot shows yet
//	gap         the stream may have left something out: a start, a reconnect, an overflow
//	mark        the first snapshot after a gap, and its position in the log
//	hole        rows that the stream should have brought and did not, found by an audit
//	cooldown    for how long there is no stream after one that did not keep up
//
// # Ticks
//
//	              what is asked                what follows
//	table         snapshot, the window's rows  all of them are dispatched, the window is closed, the gap rule is applied
//	stream        snapshot                     what it shows of the backlog is dispatched, in commit order
//	audit         snapshot, rows counted per   the stream's rows are a subset of the table's, so equal counts are equal sets: the window
//	              transaction                  is closed. What is missing is waited for, but not long, then read from the table
//	nobody live   snapshot                     it is closed, for those who have just arrived
//
//	                gap rule: all that ran at the mark has ended, the stream has passed it
//	table ticks ───────────────────────────────────────────────────────────────────────────▶ stream ticks, audits
//	            ◀───────────────────────────────────────────────────────────────────────────
//	                a gap, a hole, late for three windows, outrun by the producers
//
// # Invariants
//
//   - What is dispatched, the tick's snapshot sees: nothing before others can see it, nothing that was rolled back.
//   - When a snapshot is closed, each queue has all that it sees and wants since the queue's beginning, once, or has refused some of it.
//   - Of a key nothing is dispatched before an older message that was visible when it was inserted, unless the stream has a hole.
//   - A queue begins at a snapshot that was taken after it had arrived.
//   - The stream makes dispatching faster, never right: the table decides.
//
// # When something fails
//
//	a look                          the session is closed, another opened; what arrived or was dispatched before stays so
//	the same twice                  a window that cannot be read is not asked for again: all live runners read pages
//	rows cannot be read together    their heads are read; each message is read by itself when its turn comes
//	a window is too large           those who want something of it read pages
//	a transaction id cannot be      it is before the next mark: else a newest transaction that waits for a standby would not be seen
//	used up
//	the stream ends, overflows      a gap
//	the stream has a hole           the window is completed; the stream is relied on again after 1 s, 2 s … a minute
//	the stream is late              the window is completed; three in a row, and ticks read the table
//	the producers outrun it         no stream for 30 s … 5 min, or until there is little to carry
//	it cannot carry a message       as long without it; the log names the largest message that it may be
//	the slot holds back too much    no stream until all that runs now has ended
//	no slot or sender to spare      none is taken; it looks again every 15 s
//	the registration is gone        Run returns the error: what is in memory is void
package feed
