// Package queue carries messages from the feed to the live runners.
//
//	feed ── Push ──▶ Queue ── Take ──▶ runner          Attach: from which closed snapshot on the queue is complete
//	     ── Refuse ─▶      ── Drop ──▶                 State: whether it has ended
//
// The feed never waits for a runner. A queue that has no room for a message refuses it and all later ones, and so holds a prefix of what
// the feed has dispatched, without a hole. The runner finishes what it took, drops the queue, learns from which window on messages were
// not taken, and reads the table from there.
//
// Memory is shared: each queue may hold its fair share of the Budget, more while others leave room, up to a quarter of it.
package queue
