package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/outbox/topic"
)

// encode checks all that the database would refuse. Its error is an *InvalidError.
func (m *Message) encode(ctx context.Context) (row, error) {
	r := row{topic: m.Topic}
	for _, part := range []func(*row) *InvalidError{
		m.checkTopic, m.encodeKey, m.encodeContent, m.encodeDue, m.encodePriority, m.encodeUnique, func(r *row) *InvalidError { return m.encodeHeaders(ctx, r) }, checkSize,
	} {
		if err := part(&r); err != nil {
			err.Topic = m.Topic
			return row{}, err
		}
	}
	return r, nil
}

func (m *Message) checkTopic(*row) *InvalidError {
	err := topic.Validate(m.Topic)
	if err == nil {
		return nil
	}
	why, _ := errors.AsType[*topic.InvalidError](err)
	return &InvalidError{Field: "Topic", Problem: why.Problem, Want: why.Rule}
}

func (m *Message) encodeKey(r *row) *InvalidError {
	if f := checkText(m.Key); f != nil {
		return f.of("Key", fmt.Sprintf("Key %.60q", m.Key))
	}
	if m.Key != "" {
		r.key = &m.Key
	}
	return nil
}

func (m *Message) encodeContent(r *row) *InvalidError {
	switch {
	case m.Payload != nil && m.Body != nil:
		return &InvalidError{Problem: "both Payload and Body are given", Want: "give one of them"}
	case m.Payload == nil && m.Body == nil:
		return &InvalidError{Problem: "neither Payload nor Body is given",
			Want: `give one of them (json.RawMessage("null") is a payload, []byte{} a body)`}
	case m.Body != nil:
		r.body = m.Body
		return nil
	}
	text, f := encodePayload(m.Payload)
	if f != nil {
		return f.of("Payload", "Payload")
	}
	r.payload = &text
	return nil
}

func encodePayload(v any) (string, *flaw) {
	var text []byte
	switch v := v.(type) {
	case []byte:
		return "", &flaw{problem: "is a []byte, which encoding/json would turn into base64", want: "use json.RawMessage for JSON, Body for bytes"}
	case json.RawMessage:
		text = v
	default:
		var err error
		if text, err = json.Marshal(v); err != nil {
			return "", &flaw{problem: "cannot be marshalled", cause: err, want: "give a value that encoding/json takes"}
		}
	}
	return string(text), checkJSON(text)
}

func (m *Message) encodePriority(r *row) *InvalidError {
	switch {
	case m.Priority < 0 || m.Priority > 4:
		return &InvalidError{Field: "Priority", Problem: fmt.Sprintf("Priority %d", m.Priority), Want: "must be from 1 (first) to 4 (last), or 0 for the default, 2"}
	case m.Priority != 0:
		r.priority = new(strconv.Itoa(m.Priority))
	}
	return nil
}

const maxUniqueKey = 1000 // bytes

// encodeUnique leaves it to the database what the scope says: it knows the subscriptions.
func (m *Message) encodeUnique(r *row) *InvalidError {
	switch {
	case m.UniqueReplace && m.UniqueKey == "":
		return &InvalidError{Field: "UniqueReplace", Problem: "UniqueReplace without UniqueKey", Want: "give it one, and the UniqueScope pending:SUBSCRIPTION"}
	case m.UniqueKey == "" && m.UniqueScope == "":
		return nil
	}
	for _, part := range []struct{ name, text, want string }{
		{"UniqueKey", m.UniqueKey, "give it one, or no UniqueScope"},
		{"UniqueScope", m.UniqueScope, "give pending:SUBSCRIPTION or a time such as 1h, or no UniqueKey"},
	} {
		if part.text == "" {
			return &InvalidError{Field: part.name, Problem: part.name + " is empty", Want: part.want}
		}
		if f := checkText(part.text); f != nil {
			return f.of(part.name, fmt.Sprintf("%s %.60q", part.name, part.text))
		}
	}
	if n := len(m.UniqueKey); n > maxUniqueKey {
		return &InvalidError{Field: "UniqueKey", Problem: fmt.Sprintf("UniqueKey %.30q… has %d bytes", m.UniqueKey, n), Want: fmt.Sprintf("at most %d are allowed: give a hash of what is longer", maxUniqueKey)}
	}
	r.uniqueKey, r.uniqueScope = &m.UniqueKey, &m.UniqueScope
	if m.UniqueReplace {
		r.uniqueReplace = new("true")
	}
	return nil
}

func (m *Message) encodeDue(r *row) *InvalidError {
	if m.DeliverAt.IsZero() {
		return nil
	}
	due := m.DeliverAt.UTC()
	if due.Year() < 1 || due.Year() > 9999 {
		return &InvalidError{Field: "DeliverAt", Problem: fmt.Sprintf("DeliverAt %s is out of range", due), Want: "give a time in the years 1 to 9999"}
	}
	r.deliverAt = new(due.Format("2006-01-02T15:04:05.999999999Z07:00"))
	return nil
}

// encodeHeaders makes a flat object of strings, none of no headers.
func (m *Message) encodeHeaders(ctx context.Context, r *row) *InvalidError {
	headers := withTrace(ctx, m.Headers)
	if len(headers) == 0 {
		return nil
	}
	for name, value := range headers {
		if name == "" {
			return &InvalidError{Field: "Headers", Problem: fmt.Sprintf("a header with value %.60q has an empty name", value), Want: "give it one"}
		}
		for _, s := range []string{name, value} {
			if f := checkText(s); f != nil {
				return f.of("Headers", fmt.Sprintf("header %.60q with value %.60q", name, value))
			}
		}
	}
	text, err := json.Marshal(headers)
	if err != nil {
		return &InvalidError{Field: "Headers", Problem: "Headers cannot be marshalled", Err: err, Want: "give texts"}
	}
	r.headers = new(string(text))
	return nil
}

func checkSize(r *row) *InvalidError {
	if n := r.size(); n > maxBytes {
		return &InvalidError{Problem: fmt.Sprintf("it has %d bytes", n), Want: fmt.Sprintf("at most %d are allowed", maxBytes)}
	}
	return nil
}

// checkText tells what PostgreSQL refuses in a text.
func checkText(s string) *flaw {
	switch {
	case !utf8.ValidString(s):
		return &flaw{problem: "is not valid UTF-8", want: "give UTF-8, or put the bytes into Body"}
	case strings.IndexByte(s, 0) >= 0:
		return &flaw{problem: "holds a zero byte, which PostgreSQL cannot store in a text", want: "leave it out, or put the bytes into Body"}
	}
	return nil
}
