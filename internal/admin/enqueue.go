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
	UniqueKey *string        // goes with UniqueScope
	// UniqueScope is pending:SUBSCRIPTION or a time.
	UniqueScope   *string
	UniqueReplace bool // goes with UniqueKey: the message takes the place of the one that has it
}

// Enqueue puts a message into the outbox and returns its id or, if another one has its unique key, that one's id and duplicate.
func Enqueue(ctx context.Context, db Querier, m Message) (id int64, duplicate bool, err error) {
	function, content, payload := "enqueue", "payload => $2::jsonb", any(string(m.Payload))
	if m.Bytes {
		function, content, payload = "enqueue_bytes", "body => $2::bytea", any(m.Payload)
	}
	var wait *int64
	if m.DeliverIn != nil {
		wait = new(m.DeliverIn.Microseconds())
	}
	list := `topic => $1, key => $3, headers => $4::jsonb, priority => $7::integer,
		deliver_at => coalesce($5::timestamptz, clock_timestamp() + $6::bigint * interval '1 microsecond'), ` + content
	args := []any{m.Topic, payload, m.Key, m.Headers, m.DeliverAt, wait, m.Priority}
	if m.UniqueKey == nil && m.UniqueScope == nil && !m.UniqueReplace {
		err = db.QueryRow(ctx, "SELECT postrider."+function+"("+list+")", args...).Scan(&id)
		return id, false, err
	}
	if m.Bytes {
		list += ", payload => NULL"
	}
	if m.UniqueReplace { // else older schemas do
		list += ", unique_replace => true"
	}
	err = db.QueryRow(ctx, "SELECT id, duplicate FROM postrider.enqueue_unique("+list+", unique_key => $8, unique_scope => $9)",
		append(args, m.UniqueKey, m.UniqueScope)...).Scan(&id, &duplicate)
	return id, duplicate, err
}
