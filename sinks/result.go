package sinks

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxResult is how many bytes a result may have.
const MaxResult = 64 << 10

// maxNesting is how deep a result may be: PostgreSQL reads one level by another, and a server may have little stack.
const maxNesting = 100

// CheckResult says why a result cannot be kept. What cannot be kept must not come to the relay: a save that the server refuses is tried again.
func CheckResult(text []byte) error {
	switch {
	case len(text) > MaxResult:
		return fmt.Errorf("has %d bytes: must have at most %d", len(text), MaxResult)
	case !utf8.Valid(text):
		return errors.New("is not UTF-8")
	case nesting(text) > maxNesting:
		return fmt.Errorf("is nested %d deep: must be at most %d", nesting(text), maxNesting)
	case !json.Valid(text):
		return errors.New("is not JSON")
	}
	return nil
}

// nesting is how many arrays and objects are open at once, at most, in what may be JSON.
func nesting(text []byte) (most int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
			most = max(most, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return most
}
