// Package pull is the destination of subscriptions whose messages workers come for: the hub between the relay that owns them and whoever
// asks. Package internal/api/jobs speaks HTTP with it.
//
//	relay ── Send ──▶ waits ──── take ────▶ out ── settle: done, retry, dead, snooze ──▶ ended: the relay is told what came of it
//	                   ▲                   │ │ │
//	                   ├── release, lost ──┘ │ └── deadline ──▶ ended as failed
//	                   └ not in `holding` ───┘
//
// Cancel ends what waits and what is out: the relay gets it back, and whoever has it is told by his next beat, or by the answer to his settle.
//
// A Hub is one lock around a core, which is a state machine without I/O and clock: every method takes the time. Nothing runs for a job or
// for a worker; a call that waits for jobs is the caller's goroutine.
//
// # Terms
//
//	line       one subscription's jobs here, and the calls that wait for one
//	job        a delivery that waits for a worker or is out with one
//	token      what a hand-out is known by: who has it may settle the job
//	worker     a name and an incarnation: another incarnation of a name has nothing of what the former one had
//	doubtful   a job that was lost together with others: it is next out alone, so that the one that kills workers is found
//
// # Rules
//
//   - A job is handed out, and "ok" said, only while the relay is certain that it owns its subscriptions (Confirmed), at that moment.
//   - Every call of a worker is a sign of life. One that is silent for worker_ttl is lost with all that it has: a job that it had by itself
//     has failed, of several none has, but each is doubtful. While a worker has one of these it gets nothing else.
//   - An attempt ends at its deadline, which progress moves.
//   - A list of what a worker holds is complete: what it leaves out goes to others, and no attempt counts. What was handed out less than a
//     moment before may not have arrived when the list was made.
//   - Tokens of ended hand-outs are remembered for some minutes, and their answer repeated. "late" is said only where the job went to
//     somebody else, or is about to; of what is not known, "unknown".
//   - A job that was given up and waits still belongs to whoever comes back with its token first.
//   - A large job waits without its message, which is read when a worker gets it, alone in its answer: jobs that nobody comes for take no
//     memory from those of others.
//   - A job wakes one call, and a call that was woken takes along what comes until it has looked.
//
// # When something fails
//
//	the worker dies or hangs       its jobs go to others after worker_ttl, or at the attempt's deadline if it still calls
//	an answer is lost              the next list of what is held tells; a settle is repeated and answered as before
//	a caller leaves while it waits what was about to be its goes to the next
//	the relay stops                what waits is given back, what is out is handed over with token and deadline (Relinquish)
package pull
