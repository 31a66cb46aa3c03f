// Package outboxtest says in an application's tests what it has enqueued in a transaction that is still open, so that a test needs no
// relay, no receiver and no commit:
//
//	func TestPlaceOrder(t *testing.T) {
//		tx := begin(t)              // rolled back at the end
//		placeOrder(ctx, tx, order)  // what is tested
//		outboxtest.RequireEnqueued(t, tx, outbox.Message{Topic: "orders.created", Key: "order-17", Payload: order})
//		outboxtest.RequireNotEnqueued(t, tx, outbox.Message{Topic: "orders.rejected"})
//	}
//
// The [outbox.Message] that is looked for is a pattern: what it leaves empty may be anything, so the zero Message is every message.
// Topic may hold the wildcards of a subscription, such as orders.*. Payloads are compared as jsonb does: the order of fields and white
// space do not count. Headers must be there with these values; others may be there, too.
//
// Only messages of this transaction are seen, with those of its savepoints that were not rolled back. Their role must be one that may
// read postrider.outbox, which an application's role usually may not: in tests, the owner of the database is the usual one.
package outboxtest
