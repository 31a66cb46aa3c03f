package stdout

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postrider/postrider/sinks"
)

// meta is the line without its body, in the order of its fields.
type meta struct {
	ID           string          `json:"id"`
	Topic        string          `json:"topic"`
	Key          string          `json:"key,omitempty"`
	Headers      json.RawMessage `json:"headers,omitempty"`
	CreatedAt    time.Time       `json:"created_at"`
	Priority     int16           `json:"priority,omitempty"` // where it is not the default
	Attempt      int             `json:"attempt"`
	Subscription string          `json:"subscription"`
}

// appendLine renders {"id", "topic", "key", "headers", "created_at", "priority", "attempt", "subscription"} and then "payload", the
// JSON as it is, or "body", other bytes in base64. Key and headers are left out if there are none, the priority if it is the default.
func appendLine(b *bytes.Buffer, d *sinks.Delivery) error {
	if _, err := d.HeaderMap(); err != nil {
		return err
	}
	start := b.Len()
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	m := meta{d.MessageID, d.Topic, d.Key, d.Headers, d.CreatedAt.UTC(), d.Priority, d.Attempt, d.Subscription}
	if m.Priority == sinks.DefaultPriority {
		m.Priority = 0
	}
	if err := enc.Encode(m); err != nil {
		b.Truncate(start)
		return fmt.Errorf("render as JSON: %w", err)
	}
	b.Truncate(b.Len() - len("}\n"))
	if d.JSON && json.Valid(d.Payload) {
		b.WriteString(`,"payload":`)
		appendPayload(b, d.Payload)
	} else {
		b.WriteString(`,"body":"`)
		b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), d.Payload))
		b.WriteByte('"')
	}
	b.WriteString("}\n")
	return nil
}

// appendPayload keeps the JSON as it is, but on one line: in valid JSON a line break is white space.
func appendPayload(b *bytes.Buffer, payload []byte) {
	if bytes.IndexByte(payload, '\n') < 0 && bytes.IndexByte(payload, '\r') < 0 {
		b.Write(payload)
		return
	}
	for _, c := range payload {
		if c == '\n' || c == '\r' {
			c = ' '
		}
		b.WriteByte(c)
	}
}
