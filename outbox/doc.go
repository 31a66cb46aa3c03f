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
// Only transactions are taken. A pool or a connection does not compile: the message would be sent although what it tells about is
// rolled back. Where BEGIN is sent by hand, [Begun] and [BegunSQL] say so.
//
// A message is checked before the database sees it. An [InvalidError] says what is wrong with the message, and leaves the transaction
// usable. Any other error comes from the database or the connection to it (no schema, no privilege, a message larger than it accepts):
// then the transaction is aborted, as by any statement that fails.
//
//	if invalid, ok := errors.AsType[*outbox.InvalidError](err); ok {
//		return fmt.Errorf("bad request: %s: %s", invalid.Field, invalid.Want)
//	}
//
// An application's own tests ask package outboxtest what was enqueued.
//
// # Traces
//
// A message takes the W3C trace context of its context along as headers, so that a receiver can continue the trace: traceparent, tracestate
// and baggage. With OpenTelemetry, the context that all others descend from gets a function, once:
//
//	ctx = outbox.WithTraceFrom(ctx, func(ctx context.Context) map[string]string {
//		carrier := propagation.MapCarrier{}
//		otel.GetTextMapPropagator().Inject(ctx, carrier)
//		return carrier
//	})
//
// Baggage goes to every receiver of the message, so one that has none to give leaves propagation.Baggage out. Without a tracing library,
// [WithTraceparent] puts a traceparent into a context.
package outbox
