package outboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/topic"
)

// Enqueued is a message as the outbox holds it.
type Enqueued struct {
	ID         int64
	Topic, Key string            // Key is empty without one
	Payload    json.RawMessage   // as jsonb writes it; nil with a Body
	Body       []byte            // nil with a Payload
	Headers    map[string]string // nil without any
	DeliverAt  time.Time         // UTC; zero if it is due at once
	Priority   int               // from 1 to 4, as it was given
}

// compared is a message, and in which of the fields that are looked for it differs.
type compared struct {
	Enqueued
	differs []string
}

// pattern is what messages are compared with.
type pattern struct {
	want    outbox.Message
	topics  *topic.Matcher // nil: any
	payload *string        // JSON; nil: any
}

func newPattern(want outbox.Message) (*pattern, error) {
	p := &pattern{want: want}
	if want.Topic != "" {
		topics, err := topic.NewMatcher([]string{want.Topic})
		if err != nil {
			return nil, err
		}
		p.topics = topics
	}
	switch payload := want.Payload.(type) {
	case nil:
	case []byte:
		return nil, errors.New("the payload is a []byte: use json.RawMessage for JSON, Body for bytes")
	case json.RawMessage:
		p.payload = new(string(payload))
	default:
		text, err := json.Marshal(payload)
		if err != nil {
			return nil, err
		}
		p.payload = new(string(text))
	}
	return p, nil
}

// selectOwn finds the rows of the transaction that it runs in. Numbers and texts mean the same to every driver.
const selectOwn = `SELECT id, topic::text, coalesce(key, ''), coalesce(payload::text, ''), coalesce(body, ''), body IS NOT NULL,
	coalesce(headers::text, '{}'), coalesce((extract(epoch FROM deliver_at) * 1000000)::bigint, 0), deliver_at IS NOT NULL,
	coalesce(payload = $1::text::jsonb, false), priority::integer
FROM postrider.outbox WHERE xid = pg_catalog.pg_current_xact_id_if_assigned() ORDER BY id`

func (p *pattern) compare(ctx context.Context, q query) (list []compared, err error) {
	err = q(ctx, selectOwn, []any{p.payload}, func(into func(...any) error) error {
		var m Enqueued
		var payload, headers string
		var hasBody, hasDue, samePayload bool
		var due int64
		if err := into(&m.ID, &m.Topic, &m.Key, &payload, &m.Body, &hasBody, &headers, &due, &hasDue, &samePayload, &m.Priority); err != nil {
			return err
		}
		if hasBody {
			m.Body = append([]byte{}, m.Body...)
		} else {
			m.Body, m.Payload = nil, json.RawMessage(payload)
		}
		if hasDue {
			m.DeliverAt = time.UnixMicro(due).UTC()
		}
		if headers != "{}" {
			if err := json.Unmarshal([]byte(headers), &m.Headers); err != nil {
				return err
			}
		}
		list = append(list, compared{m, p.differences(m, samePayload)})
		return nil
	})
	return list, err
}

func (p *pattern) differences(m Enqueued, samePayload bool) (differs []string) {
	for _, c := range []struct {
		field string
		same  bool
	}{
		{"Topic", p.topics == nil || p.topics.Match(m.Topic)},
		{"Key", p.want.Key == "" || p.want.Key == m.Key},
		{"Payload", p.payload == nil || samePayload},
		{"Body", p.want.Body == nil || m.Body != nil && bytes.Equal(p.want.Body, m.Body)},
		{"Headers", holds(m.Headers, p.want.Headers)},
		{"DeliverAt", p.want.DeliverAt.IsZero() || p.want.DeliverAt.Round(time.Microsecond).Equal(m.DeliverAt)},
		{"Priority", p.want.Priority == 0 || p.want.Priority == m.Priority},
	} {
		if !c.same {
			differs = append(differs, c.field)
		}
	}
	return differs
}

// holds reports whether headers has all of want.
func holds(headers, want map[string]string) bool {
	for name, value := range want {
		if got, ok := headers[name]; !ok || got != value {
			return false
		}
	}
	return true
}
