// Package schedule fires the messages of schedules when they are due. Any relay fires any schedule, and none is the leader:
//
//	Step   earliest ──not yet──▶ wait for it, a second at most: what changes meanwhile is seen then
//	         │ due
//	         ▼
//	       read what is due, page by page ▶ decide (pure) ▶ fire: compare and set, and insert, in one statement
//
// What holds:
//   - Each run is fired once. A schedule moves on only from the version and the next run that were decided about, in the statement that
//     inserts its messages: who comes second, or after a change, a pause or a removal, finds nothing to move. Nothing is kept in memory
//     between steps, and nothing is held while a relay thinks: one that is killed or stopped anywhere leaves the row due.
//   - Only the database's clock says what is due, and only differences to it say how long to sleep.
//   - One schedule's trouble is its own: what cannot be read is noted in its row and looked at again a minute later, and so is a row for
//     which the database refuses the messages; the others of its page are fired without it, and those without trouble first.
//   - A run that comes less than a minute late is as good as in time. For what is later, the schedule says whether none of it is made up
//     for (skip), the last run (last), or the last n: all(n).
package schedule
