// Package worker does jobs: messages of subscriptions that workers come for.
//
//	w, err := worker.New(worker.Pull("http://127.0.0.1:8090"), worker.Config{
//		Name: "mailer",
//		Routes: []worker.Route{
//			{Subscription: "mail", Topic: "mail.welcome", Handle: welcome},
//			{Subscription: "mail", Handle: other},
//		},
//	})
//	if err != nil {
//		return err
//	}
//	return w.Run(ctx) // until ctx is cancelled, as by signal.NotifyContext
//
// A [Handler] gets a [Job] and returns nil, or an error: then the job is tried again after its subscription's backoff, until it is a dead letter.
// [Retry], [Dead] and [Snooze] say more. Jobs of one key come one at a time, in order. Jobs are enqueued with package outbox, or in SQL.
//
// There are two sources, for two kinds of work:
//
//   - [Pull] is for subscriptions with the destination pull:, and for work of any length. Jobs come over HTTP from a relay. A job may come
//     again although it was done: when the worker dies, or is silent for too long, before the relay has heard of it.
//   - [SQL] is for subscriptions with the destination sql:, and for work in the same database. Jobs are taken, done and settled in one
//     transaction, [Job.Tx]: what a handler writes there and that the job is done are committed together, exactly once. No relay is needed.
//
// # What happens on each failure
//
//	the handler returns an error, panics     the attempt counts; again after the backoff, or after Retry's time
//	another job of its batch fails (SQL)     nothing; with Config.Repeatable what it has done may be undone with that one and done again
//	the handler is too slow (Pull)           its context is cancelled with ErrLost; others have the job. Progress gives it more time
//	the handler is too slow (SQL)            PostgreSQL ends the transaction: nothing of it was done
//	the process dies                         others get its jobs: with Pull after the worker's silence, with SQL at once
//	the relay is away (Pull)                 handlers go on; what ends meanwhile is settled when it is back
//	the database is away (SQL)               the transaction is gone, with its effects; the worker reconnects
//	an answer gets lost (Pull)               the request is repeated; tokens keep that from counting twice
//	Run's context is cancelled               no more jobs are taken; handlers have Config.Drain to end; the rest is released, and no attempt counts
//	the message is cancelled                 the handler's context is cancelled with ErrCancelled
//
// # Traces
//
// A job has the trace context of whoever enqueued it in its headers. [Config.Context] puts it into the context of its handler, with whatever
// library there is: this package needs none. The example of it does so with OpenTelemetry.
//
// Tests of handlers use package workertest.
package worker
