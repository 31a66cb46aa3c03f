// Package store has the statements of the engine: sessions with their own limits, ticks and windows for the feed, pages and single messages
// for passes, parked rows, callbacks, the table of relays, takeovers, the ring of segments, and the one fenced statement that saves everything.
//
//   - No statement depends on what a role, a database or a URL has set: sessions pin it, behind a pooler each transaction does.
//   - What another owner may have changed meanwhile is read together with who owns the cursor (mineCall): ErrLost ends it.
//   - What is read in vain is bounded (overflow). Rows that cannot be read together are read by their heads.
//   - A save locks cursors in the order of their parts, skips what somebody has locked, and leaves a cursor alone whose epoch or owner is
//     another: the fence. What does not depend on the clock is idempotent, so that a save whose answer was lost is simply made again.
package store
