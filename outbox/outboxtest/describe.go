package outboxtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/outbox"
)

// A failure lists at most so many messages, and of a value so many bytes.
const (
	maxListed = 20
	maxValue  = 200
)

// describe says which fields are looked for.
func describe(want outbox.Message) string {
	payload := ""
	switch v := want.Payload.(type) {
	case nil:
	case json.RawMessage:
		payload = string(v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte(err.Error())
		}
		payload = string(text)
	}
	if text := fields(want.Topic, want.Key, payload, want.Body, want.Headers, want.DeliverAt, want.Priority); text != "" {
		return "{" + text + "}"
	}
	return "{}, the pattern of every message"
}

func (m Enqueued) String() string {
	return fmt.Sprintf("id %d {%s}", m.ID, fields(m.Topic, m.Key, string(m.Payload), m.Body, m.Headers, m.DeliverAt, m.Priority))
}

func fields(topic, key, payload string, body []byte, headers map[string]string, due time.Time, priority int) string {
	var parts []string
	add := func(given bool, name, format string, value any) {
		if !given {
			return
		}
		text := fmt.Sprintf(format, value)
		if len(text) > maxValue {
			text = strings.ToValidUTF8(text[:maxValue], "") + "…"
		}
		parts = append(parts, name+": "+text)
	}
	add(topic != "", "Topic", "%q", topic)
	add(key != "", "Key", "%q", key)
	add(payload != "", "Payload", "%s", payload)
	add(body != nil, "Body", "%q", body)
	add(len(headers) > 0, "Headers", "%q", headers)
	add(!due.IsZero(), "DeliverAt", "%s", due.Format(time.RFC3339Nano))
	add(priority != 0 && priority != 2, "Priority", "%d", priority)
	return strings.Join(parts, ", ")
}

// differences lists all messages of the transaction.
func differences(list []compared) string {
	if len(list) == 0 {
		return "nothing was enqueued in it (in another one, or in a savepoint that was rolled back?)"
	}
	lines := make([]string, len(list))
	for i, c := range list {
		lines[i] = fmt.Sprintf("%s\n\t\tdiffers in %s", c.Enqueued, strings.Join(c.differs, ", "))
	}
	return "enqueued were" + clipped(lines)
}

func listing(list []Enqueued) string {
	lines := make([]string, len(list))
	for i, m := range list {
		lines[i] = m.String()
	}
	return "these are" + clipped(lines)
}

func clipped(lines []string) string {
	more := ""
	if n := len(lines) - maxListed; n > 0 {
		lines, more = lines[:maxListed], fmt.Sprintf("\n\t… and %d more", n)
	}
	return "\n\t" + strings.Join(lines, "\n\t") + more
}
