package sinks

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Message is one row of the outbox. It is shared by all subscriptions that deliver it and must not be changed. ID and Key share the
// payload's memory: whoever keeps one of them for longer than the delivery takes makes a copy.
type Message struct {
	// ID is the id of the outbox row: unique in one database, ascending in the order of insertion.
	ID int64
	// MessageID is the message id on the wire: source id, id and creation time in microseconds. It is the same on every
	// attempt and for every subscription.
	MessageID string
	// Topic is a dot-separated name such as "orders.created".
	Topic string
	// Key orders messages: those with the same key are delivered in the order of insertion. Empty means no key.
	Key string
	// Payload is the body as it goes on the wire: JSON text, or bytes of any kind.
	Payload []byte
	// JSON says that Payload came from the jsonb column.
	JSON bool
	// Priority is from 1 (first) to 4 (last). Where it is DefaultPriority, destinations are not told.
	Priority int16
	// Headers is a flat JSON object of strings, or nil.
	Headers []byte
	// CreatedAt is the time of the INSERT by the database's clock.
	CreatedAt time.Time
}

// DefaultPriority is that of a message for which nothing else was said.
const DefaultPriority = 2

// HeaderMap decodes Headers. It returns nil if there are none.
func (m *Message) HeaderMap() (map[string]string, error) {
	if len(m.Headers) == 0 {
		return nil, nil
	}
	var h map[string]string
	if err := json.Unmarshal(m.Headers, &h); err != nil {
		return nil, fmt.Errorf("headers are not a flat JSON object of strings: %w", err)
	}
	return h, nil
}

// Delivery is one attempt to hand a message to a subscription's destination.
type Delivery struct {
	*Message
	// Subscription is the name of the subscription.
	Subscription string
	// Attempt counts from 1.
	Attempt int
	// Load is set for a LateLoader, where the message is too large to be in memory while it waits: Message lacks payload and headers
	// then. Load reads it, waiting for memory as long as ctx lets it. Free gives that back. An error, unless ctx is over, is what came
	// of the delivery.
	Load func(ctx context.Context) (m *Message, free func(), err error)
}

// Sink delivers messages to one destination. Its methods may be called by several goroutines at once.
type Sink interface {
	// Deliver hands the batch to the destination and sets outcomes[i] to what came of batch[i]: nil once the
	// destination has confirmed it (or Accepted, if it gave a result), else one of this package's outcomes; any other error counts as Retryable.
	// len(outcomes) equals len(batch), and every outcome is nil on entry. A batch holds at most one message per key,
	// so its messages may be sent in any order and at the same time.
	//
	// Deliver returns only when every outcome is known. It bounds its own waiting (a timeout is Unavailable or
	// Retryable, as the sink sees fit); when ctx is cancelled it returns soon, with an error for each message that was
	// not confirmed. It keeps no reference to batch or outcomes after it has returned.
	Deliver(ctx context.Context, batch []Delivery, outcomes []error)

	// Limits tells the relay how to feed this sink.
	Limits() Limits

	// Close releases connections. No Deliver is under way or follows.
	Close() error
}

// Limits are a sink's own defaults; settings of the subscription may lower or raise them.
type Limits struct {
	// Lanes is the number of Deliver calls that may be under way at once.
	Lanes int
	// Batch is the largest number of messages in one Deliver.
	Batch int
}

// UnknownError is a setting, or a value of one, that this build does not know. A newer one may: while a deploy is under way both run.
type UnknownError struct{ Err error }

// Unknown marks an error as an UnknownError.
func Unknown(err error) error { return &UnknownError{err} }

// Error returns the reason.
func (u *UnknownError) Error() string { return u.Err.Error() }

// Unwrap returns the reason.
func (u *UnknownError) Unwrap() error { return u.Err }
