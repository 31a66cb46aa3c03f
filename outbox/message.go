package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/outbox/topic"
)

// maxBytes bounds a message: PostgreSQL's jsonb ends at 256 MiB, its fields at 1 GiB with everything that quoting adds.
const maxBytes = 128 << 20

// Message is what is to be delivered. Topic and one of Payload and Body must be given.
type Message struct {
	// Topic says what the message is about: tokens of printable ASCII joined by dots, such as orders.created. At most 255 bytes.
	Topic string
	// Key, if not empty, keeps messages of the same key in order.
	Key string
	// Payload is marshalled by encoding/json; a json.RawMessage is taken as it is. It is stored as jsonb: white space, the
	// order of an object's fields and all but the last of equal names are not kept.
	Payload any
	// Body is anything that is not JSON. An empty body is one that is not nil.
	Body []byte
	// Headers go along with the message. Names are not empty; HTTP and NATS can carry letters, digits and dashes.
	Headers map[string]string
	// DeliverAt, if not zero, is when the message is due. It is rounded to microseconds.
	DeliverAt time.Time
}

// row is a message as the database takes it; nil stands for NULL.
type row struct {
	topic                            string
	key, payload, headers, deliverAt *string
	body                             []byte
}

// size is roughly how much of a statement the row takes, in bytes.
func (r *row) size() int {
	n := 64 + len(r.topic) + 2*len(r.body)
	for _, s := range []*string{r.key, r.payload, r.headers} {
		if s != nil {
			n += len(*s)
		}
	}
	return n
}

// encode checks all that the database would refuse.
func (m *Message) encode(ctx context.Context) (r row, err error) {
	if err := topic.Validate(m.Topic); err != nil {
		return r, err
	}
	r.topic = m.Topic
	if err := m.encodeContent(&r); err != nil {
		return r, fmt.Errorf("message with topic %s: %w", m.Topic, err)
	}
	if r.headers, err = encodeHeaders(withTrace(ctx, m.Headers)); err != nil {
		return r, fmt.Errorf("message with topic %s: %w", m.Topic, err)
	}
	if n := r.size(); n > maxBytes {
		return r, fmt.Errorf("message with topic %s has %d bytes: at most %d are allowed", m.Topic, n, maxBytes)
	}
	return r, nil
}

func (m *Message) encodeContent(r *row) (err error) {
	if err := checkText(m.Key); err != nil {
		return fmt.Errorf("key %.60q: %w", m.Key, err)
	}
	if m.Key != "" {
		r.key = &m.Key
	}
	switch {
	case m.Payload != nil && m.Body != nil:
		return errors.New("both Payload and Body are given: give one of them")
	case m.Payload != nil:
		if r.payload, err = encodePayload(m.Payload); err != nil {
			return fmt.Errorf("payload: %w", err)
		}
	case m.Body != nil:
		r.body = m.Body
	default:
		return errors.New(`neither Payload nor Body is given: give one of them (json.RawMessage("null") is a payload, []byte{} a body)`)
	}
	if !m.DeliverAt.IsZero() {
		at := m.DeliverAt.UTC()
		if at.Year() < 1 || at.Year() > 9999 {
			return fmt.Errorf("DeliverAt %s: must be in the years 1 to 9999", at)
		}
		r.deliverAt = new(at.Format("2006-01-02T15:04:05.999999999Z07:00"))
	}
	return nil
}

func encodePayload(v any) (*string, error) {
	var text []byte
	switch v := v.(type) {
	case []byte:
		return nil, errors.New("is a []byte, which encoding/json would turn into base64: use json.RawMessage for JSON, Body for bytes")
	case json.RawMessage:
		text = v
	default:
		var err error
		if text, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	if err := checkJSON(text); err != nil {
		return nil, err
	}
	return new(string(text)), nil
}

// encodeHeaders returns a flat object of strings, nil if there are no headers.
func encodeHeaders(headers map[string]string) (*string, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	for name, value := range headers {
		if name == "" {
			return nil, fmt.Errorf("a header has an empty name (its value is %.60q)", value)
		}
		if err := errors.Join(checkText(name), checkText(value)); err != nil {
			return nil, fmt.Errorf("header %.60q with value %.60q: %w", name, value, err)
		}
	}
	text, err := json.Marshal(headers)
	if err != nil {
		return nil, err
	}
	return new(string(text)), nil
}

// checkText tells what PostgreSQL refuses in a text.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("is not valid UTF-8")
	}
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("holds a zero byte, which PostgreSQL cannot store in a text")
	}
	return nil
}

// withTrace adds the context's traceparent, if there is one and the message has none.
func withTrace(ctx context.Context, headers map[string]string) map[string]string {
	trace := traceparent(ctx)
	if trace == "" {
		return headers
	}
	for name := range headers {
		if strings.EqualFold(name, traceHeader) {
			return headers
		}
	}
	added := make(map[string]string, len(headers)+1)
	maps.Copy(added, headers)
	added[traceHeader] = trace
	return added
}
