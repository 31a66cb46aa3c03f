package admin

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dberr"
)

// MessageText is a message with the beginning of what it carries; the keys are stable.
type MessageText struct {
	ID        int64           `json:"id"`
	Topic     string          `json:"topic"`
	Key       *string         `json:"key"`
	Priority  int             `json:"priority"`
	CreatedAt time.Time       `json:"created_at"`
	DeliverAt *time.Time      `json:"deliver_at"`
	Headers   json.RawMessage `json:"headers"`
	Payload   *string         `json:"payload"` // its text; nil: it has a body
	Body      []byte          `json:"body"`
	Size      int64           `json:"size"` // in bytes, of all of it
	Cut       bool            `json:"cut"`  // there is more than is shown
	// Kept says where it was found: in the log, or else beside it, as the copy of a subscription that has parked it.
	Kept string `json:"kept"`
	// Unreadable says why what the message carries cannot be shown.
	Unreadable string `json:"unreadable,omitempty"`
}

// Whole is what the message carries, nil if that is not all there.
func (c *MessageText) Whole() *Content {
	if c.Cut || c.Unreadable != "" {
		return nil
	}
	whole := &Content{Headers: c.Headers, Body: c.Body}
	if c.Payload != nil {
		whole.Payload = json.RawMessage(*c.Payload)
	}
	return whole
}

// ReadMessage returns a message, whether or not anybody wants it, the newest of its id: from the log, or else from a parked copy. At most so many bytes are shown.
func ReadMessage(ctx context.Context, db Querier, id int64, most int) (c MessageText, err error) {
	for _, kept := range []struct{ where, from string }{
		{"log", "(SELECT o.id, o.topic::text, o.key, o.priority::int, o.created_at, o.deliver_at, o.payload, o.body, o.headers::jsonb FROM postrider.outbox o WHERE o.id = $1)"},
		{"parked", `(SELECT p.id, p.topic, p.key, p.priority::int, p.created_at, NULL::timestamptz AS deliver_at, p.payload, p.body, p.headers
			FROM postrider.subscriptions s CROSS JOIN LATERAL (SELECT * FROM postrider.parked p WHERE p.subscription = s.name AND p.id = $1) p)`},
	} {
		c = MessageText{Kept: kept.where}
		if err = c.read(ctx, db, kept.from, id, most); !errors.Is(err, pgx.ErrNoRows) {
			return c, err
		}
	}
	return c, errorf(NotFound, "there is no message %d: its id is wrong, or it has left the log", id)
}

// read reads it in two steps: what can always be read, and what it carries.
func (c *MessageText) read(ctx context.Context, db Querier, from string, id int64, most int) error {
	var born string
	err := db.QueryRow(ctx, "SELECT id, topic, key, priority, "+writable("created_at")+", "+writable("deliver_at")+", created_at::text FROM "+from+" m ORDER BY m.created_at DESC LIMIT 1", id).
		Scan(&c.ID, &c.Topic, &c.Key, &c.Priority, &c.CreatedAt, &c.DeliverAt, &born)
	if err != nil {
		return err
	}
	var headers *string
	err = db.QueryRow(ctx, `SELECT left(t.payload, $3), substr(m.body, 1, $3), m.headers::text, coalesce(octet_length(t.payload), octet_length(m.body), 0)
		FROM `+from+` m CROSS JOIN LATERAL (SELECT m.payload::text OFFSET 0) t (payload) WHERE m.created_at = $2::text::timestamptz LIMIT 1`, id, born, most).
		Scan(&c.Payload, &c.Body, &headers, &c.Size)
	if code := dberr.Code(err); len(code) == 5 && (code == "53200" || slices.Contains([]string{"22", "54", "XX"}, code[:2])) {
		c.Unreadable = dberr.Cause(err)
		return nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		c.Unreadable = "it has just been removed"
		return nil
	}
	if err != nil {
		return err
	}
	if headers != nil {
		c.Headers = json.RawMessage(*headers)
	}
	shown := len(c.Body)
	if c.Payload != nil {
		shown = len(*c.Payload)
	}
	c.Cut = int64(shown) < c.Size
	return nil
}
