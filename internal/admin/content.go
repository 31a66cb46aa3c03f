package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dberr"
)

// Content is what a message carries. In JSON, one of payload and body_base64 is there, unless it cannot be shown.
type Content struct {
	Headers json.RawMessage `json:"headers"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Base64  *string         `json:"body_base64,omitempty"`
	Body    []byte          `json:"-"`
	// Unreadable says why what the message carries cannot be shown.
	Unreadable string `json:"unreadable,omitempty"`
}

// ReadContent returns what a message of the log carries or, where it has left the log, what a copy of it does that is parked. Nil: there is
// neither.
func ReadContent(ctx context.Context, db Querier, id int64) (*Content, error) {
	c := new(Content)
	err := c.read(ctx, db, "postrider.outbox WHERE id = $1 ORDER BY created_at DESC LIMIT 1", id)
	if errors.Is(err, pgx.ErrNoRows) { // what is parked is found by the subscriptions
		err = c.read(ctx, db, `postrider.subscriptions s, LATERAL (SELECT * FROM postrider.parked p WHERE p.subscription = s.name AND p.id = $1) q
			WHERE q.payload IS NOT NULL OR q.body IS NOT NULL ORDER BY q.created_at DESC LIMIT 1`, id)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return c, err
}

// read reads one row. A value that cannot be read, such as one whose text has more than a gigabyte, is no reason not to show the rest.
func (c *Content) read(ctx context.Context, db Querier, from string, args ...any) error {
	var payload, headers *string
	err := db.QueryRow(ctx, fmt.Sprintf("SELECT payload::text, headers::text, body FROM %s", from), args...).Scan(&payload, &headers, &c.Body)
	if code := dberr.Code(err); len(code) == 5 && (code == "53200" || slices.Contains([]string{"22", "54", "XX"}, code[:2])) {
		c.Unreadable = dberr.Cause(err)
		return nil
	}
	if err != nil {
		return err
	}
	if headers != nil {
		c.Headers = json.RawMessage(*headers)
	}
	if payload != nil {
		c.Payload = json.RawMessage(*payload)
	} else if c.Body != nil {
		c.Base64 = new(base64.StdEncoding.EncodeToString(c.Body))
	}
	return nil
}
