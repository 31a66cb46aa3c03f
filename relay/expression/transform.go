package expression

import (
	"fmt"
	"maps"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/sinks"
)

// Transform makes another message of one: what is nil stays as it is. The key stays in any case, for the order is by it.
type Transform struct {
	Payload *Program // its value, as JSON
	Headers *Program // texts by name, beside those that the message has; null takes one out
	Topic   *Program
}

// Payload compiles an expression for a payload. Errors are CompileErrors.
func Payload(text string) (*Program, error) { return compiled(&payloads, text) }

// Headers compiles an expression for headers. Errors are CompileErrors.
func Headers(text string) (*Program, error) { return compiled(&headers, text) }

// Topic compiles an expression for a topic. Errors are CompileErrors.
func Topic(text string) (*Program, error) { return compiled(&topics, text) }

// maxMade is how many bytes a payload or headers may have that were made, unless the message's own have half as many.
const maxMade = 64 << 10

// Of makes the message that is delivered instead of m, and says what that has cost. An error, which names the part, is one of an expression
// on this message.
func (t *Transform) Of(m *sinks.Message, memo *Memo) (made *sinks.Message, cost int, err error) {
	to := *m
	for _, part := range []struct {
		name    string
		program *Program
		put     func(is any) error
	}{
		{"payload", t.Payload, func(is any) error { to.Payload, to.JSON = is.([]byte), true; return nil }},
		{"headers", t.Headers, func(is any) (err error) { to.Headers, err = merged(m, is.(map[string]*string)); return err }},
		{"topic", t.Topic, func(is any) error { to.Topic = is.(string); return nil }},
	} {
		if part.program == nil {
			continue
		}
		is, spent, err := part.program.of(m, memo)
		if cost += spent; err == nil {
			err = part.put(is)
		}
		if err != nil {
			return nil, cost, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return &to, cost, nil
}

// merged are the headers of a message with others beside them.
func merged(m *sinks.Message, others map[string]*string) ([]byte, error) {
	own, err := m.HeaderMap()
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(own)+len(others))
	maps.Copy(all, own)
	for name, value := range others {
		if delete(all, name); value != nil {
			all[name] = *value
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	w := writer{most: max(maxMade, 2*len(m.Headers))}
	w.texts(all)
	return w.text, w.err
}

// checkTopic says what is wrong with a topic that was made.
func checkTopic(is string) error {
	if err := topic.Validate(is); err != nil {
		return fmt.Errorf("its value is no topic: %w", err)
	}
	return nil
}
