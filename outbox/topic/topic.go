// Package topic holds the rules for topics and for the patterns that select them. The database applies the same rules (a
// domain postrider.topic, postrider.valid_patterns, postrider.topic_regex); testdata/cases.json is what both must agree on.
package topic

import (
	"fmt"
	"strings"
)

// MaxLen is the length of the longest topic and of the longest pattern, in bytes.
const MaxLen = 255

// InvalidError says why a text is no topic or no pattern.
type InvalidError struct {
	Problem string // names the text and what is wrong with it
	Rule    string // what would be right
}

func (e *InvalidError) Error() string { return e.Problem + ": " + e.Rule }

func invalid(rule, format string, args ...any) error {
	return &InvalidError{Problem: fmt.Sprintf(format, args...), Rule: rule}
}

// Validate returns nil if topic is a topic: tokens of printable ASCII joined by dots, none of them empty, without '*' and
// '>', not beginning with '$', at most MaxLen bytes. Otherwise it returns an *InvalidError.
func Validate(topic string) error {
	switch {
	case topic == "":
		return invalid(topicRule, "topic is empty")
	case len(topic) > MaxLen:
		return tooLong("topic", topic)
	case topic[0] == '$':
		return invalid(topicRule, "topic %q begins with '$': such topics are Postrider's own, which tells there what operators are to know", topic)
	}
	for start := 0; ; {
		end := tokenEnd(topic, start)
		if end == start {
			return invalid(topicRule, "topic %q has an empty token at byte %d", topic, start+1)
		}
		if i := notPlain(topic[start:end]); i >= 0 {
			return badByte("topic", topic, start+i, topicRule)
		}
		if end == len(topic) {
			return nil
		}
		start = end + 1
	}
}

// own begins the topics of Postrider's own events.
const own = "$postrider."

const (
	topicRule   = "a topic is tokens of printable ASCII without blanks, '*' and '>', joined by dots, such as orders.created"
	patternRule = "a pattern is a topic in which '*' may stand for a token and '>' for the last ones, such as orders.* or orders.>"
)

// tokenEnd returns where the token that begins at start ends.
func tokenEnd(s string, start int) int {
	if i := strings.IndexByte(s[start:], '.'); i >= 0 {
		return start + i
	}
	return len(s)
}

// notPlain returns the index of the first byte that a token may not hold, -1 if there is none.
func notPlain(token string) int {
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' || c == '*' || c == '>' || c == '.' {
			return i
		}
	}
	return -1
}

func badByte(kind, s string, i int, rule string) error {
	return invalid(rule, "%s %q holds %q at byte %d", kind, s, s[i:i+1], i+1)
}

func tooLong(kind, s string) error {
	return invalid(fmt.Sprintf("at most %d are allowed", MaxLen), "%s %.20q… has %d bytes", kind, s, len(s))
}
