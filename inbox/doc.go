// Package inbox lets a receiver do nothing twice: it remembers, in the receiver's own database, which messages have had their effect, in the
// transaction of that effect. Postrider delivers at least once, so what a receiver does may be asked for again when an answer gets lost;
// with the inbox it happens once.
//
//	tx, err := pool.Begin(ctx)
//	if err != nil {
//		return err
//	}
//	defer tx.Rollback(ctx)
//	fresh, err := inbox.Accept(ctx, tx, r.Header.Get("Webhook-Id"))
//	if err != nil {
//		return err
//	}
//	if fresh {
//		if _, err := tx.Exec(ctx, `UPDATE accounts …`); err != nil {
//			return err
//		}
//	}
//	return tx.Commit(ctx) // and only then say that the message has arrived
//
// With database/sql the functions are [AcceptSQL] and [AcceptManySQL]. Other languages call postrider_inbox.accept(id) in SQL.
//
// [Install] makes the schema postrider_inbox, as `postrider inbox install` does. It needs nothing else of Postrider there.
//
// # What it costs, and what it remembers
//
// An accepted message is one row in a segment of a ring. Segments are emptied as a whole by TRUNCATE: no row is deleted or updated, nothing
// bloats, and no job has to run. A message is remembered for 14 days from the time at which it was made (the last part of its id), or for as
// long as [Keep] says. Messages that are older when they come, as dead letters that are redriven and replays are, are remembered for as long
// from when they came. Choose more than the time for which senders retry, keep dead letters, or replay.
//
// # What happens on each failure
//
//	the transaction is rolled back         the message was not accepted: it may come again
//	the answer to COMMIT gets lost         it comes again, and is not fresh
//	two connections accept it at once      the second waits for the first: if that commits, it is not fresh there
//	the receiver's database is restored    messages since then are fresh again, as their effects are gone
//	the clock is wrong by hours            an error, SQLSTATE 22008: the message comes again
package inbox
