package admin

import (
	"context"
	"time"
)

// Message is a message on its way into the outbox. Nil pointers are SQL's NULL.
type Message struct {
	Topic     string
	Payload   []byte // JSON, unless Bytes says that it is anything
	Bytes     bool
	Key       *string
	Headers   *string // a JSON object of strings
	DeliverAt *time.Time
	DeliverIn *time.Duration // from the database's now, where DeliverAt is nil
	Priority  *int           // from 1 to 4
}

// Enqueue puts a message into the outbox and returns its id.
func Enqueue(ctx context.Context, db Querier, m Message) (id int64, err error) {
	call, payload := "enqueue($1, $2::jsonb", any(string(m.Payload))
	if m.Bytes {
		call, payload = "enqueue_bytes($1, $2::bytea", any(m.Payload)
	}
	var wait *int64
	if m.DeliverIn != nil {
		wait = new(m.DeliverIn.Microseconds())
	}
	err = db.QueryRow(ctx, "SELECT postrider."+call+`, $3, $4::jsonb, coalesce($5::timestamptz, clock_timestamp() + $6::bigint * interval '1 microsecond'), $7::integer)`,
		m.Topic, payload, m.Key, m.Headers, m.DeliverAt, wait, m.Priority).Scan(&id)
	return id, err
}
