package subscription

import (
	"encoding/json"
	"fmt"

	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay/expression"
)

// Transform says what is delivered instead of a message: expressions, of which those that are empty change nothing.
type Transform struct {
	Payload string `json:"payload,omitzero"`
	Headers string `json:"headers,omitzero"`
	Topic   string `json:"topic,omitzero"`
}

// Compiled returns what makes the messages, nil if they stay as they are.
func (t Transform) Compiled() (*expression.Transform, error) {
	if t == (Transform{}) {
		return nil, nil
	}
	var to expression.Transform
	for _, part := range []struct {
		name, text string
		compile    func(text string) (*expression.Program, error)
		to         **expression.Program
	}{
		{"payload", t.Payload, expression.Payload, &to.Payload}, {"headers", t.Headers, expression.Headers, &to.Headers}, {"topic", t.Topic, expression.Topic, &to.Topic},
	} {
		if part.text == "" {
			continue
		}
		p, err := part.compile(part.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		*part.to = p
	}
	return &to, nil
}

// transformOf is the setting of a transform.
func transformOf(name string, at func(*Settings) *Transform, help string) *Field {
	f := comparableMember(name, help, at, Transform{})
	f.Shape = Table
	decode := f.decode
	f.decode = func(s *Settings, raw json.RawMessage) []strict.Problem {
		*at(s) = Transform{} // not what an earlier text has said
		return decode(s, raw)
	}
	f.Read = func(text string) (json.RawMessage, error) {
		return readObject(text, `{"payload": "{\"id\": payload.id, \"sum\": payload.total * 2}"}`)
	}
	f.check = func(s *Settings) error {
		if _, err := at(s).Compiled(); err != nil {
			return fmt.Errorf("%s.%w", name, err)
		}
		return nil
	}
	return f
}
