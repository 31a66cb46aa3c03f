// Package outbox enqueues messages inside an application's own transactions. Postrider delivers what was committed; what was
// rolled back is never seen by anyone.
//
// With pgx:
//
//	tx, err := pool.Begin(ctx)
//	if err != nil {
//		return err
//	}
//	defer tx.Rollback(ctx)
//	if _, err := tx.Exec(ctx, `INSERT INTO orders …`); err != nil {
//		return err
//	}
//	_, err = outbox.Enqueue(ctx, tx, outbox.Message{
//		Topic:   "orders.created",
//		Key:     "order-17", // messages of one key are delivered in order
//		Payload: order,      // marshalled by encoding/json
//	})
//	if err != nil {
//		return err
//	}
//	return tx.Commit(ctx)
//
// With database/sql, and whatever PostgreSQL driver is behind it, the functions are [EnqueueSQL] and [EnqueueBatchSQL]. Many
// messages at once are best handed to [EnqueueBatch]: one statement instead of one round trip each.
//
// A message is checked before the database sees it, so an error about the message itself leaves the transaction usable. An
// error from the database (no schema, no privilege, a message larger than it accepts, a lost connection) aborts the transaction, as any failed statement does.
//
// # Traces
//
// A message takes the W3C traceparent of its context along as a header, so that a receiver can continue the trace. Without a
// tracing library, [WithTraceparent] puts one into a context. With OpenTelemetry, one assignment to [Traceparent] at the start
// of main is enough:
//
//	outbox.Traceparent = func(ctx context.Context) string {
//		carrier := propagation.MapCarrier{}
//		propagation.TraceContext{}.Inject(ctx, carrier)
//		return carrier["traceparent"]
//	}
package outbox
