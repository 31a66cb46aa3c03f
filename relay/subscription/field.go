package subscription

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/sinks"
)

// Shape is how the value of a setting looks in a file.
type Shape int

// The shapes.
const (
	scalar Shape = iota // a word, a number or a wait
	List                // a list of scalars; in one text, they are separated by commas
	Object              // a mapping that only the sink understands
	Table               // a mapping
)

// Field is one setting of a subscription.
type Field struct {
	Name  string // in files and the settings column; in the environment in capitals, with a prefix
	Help  string // what it means, for people, with its default
	Shape Shape
	// Read makes JSON of what a person has written in one text, or says what would be right.
	Read func(text string) (json.RawMessage, error)

	decode func(s *Settings, raw json.RawMessage) []strict.Problem
	encode func(s *Settings) any // nil: not set
	equal  func(a, b *Settings) bool
	check  func(s *Settings) error // what is wrong with it alone; what is not set is right
	fill   func(s *Settings)       // sets a default that depends on nothing else
}

// Find returns the setting of a name, nil if there is none.
func Find(name string) *Field {
	for _, f := range Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// Names returns the names of all settings.
func Names() []string {
	var names []string
	for _, f := range Fields {
		names = append(names, f.Name)
	}
	return names
}

// Decode sets it to a value in JSON.
func (f *Field) Decode(s *Settings, raw json.RawMessage) error {
	if problems := f.decode(s, raw); len(problems) > 0 {
		return strict.Problems(problems)
	}
	return nil
}

// Check says what is wrong with it alone. What is not set is right.
func (f *Field) Check(s *Settings) error { return f.check(s) }

// JSON returns its value, nil if it is not set.
func (f *Field) JSON(s *Settings) json.RawMessage {
	v := f.encode(s)
	if v == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil // options that are no JSON: Check says so
	}
	return text
}

// member is what all shapes have in common.
func member[T any](name, help string, at func(*Settings) *T, isSet func(T) bool) *Field {
	return &Field{
		Name: name, Help: help,
		decode: func(s *Settings, raw json.RawMessage) []strict.Problem { return strict.Value(name, raw, at(s)) },
		encode: func(s *Settings) any {
			if v := *at(s); isSet(v) {
				return v
			}
			return nil
		},
		check: func(*Settings) error { return nil },
		fill:  func(*Settings) {},
	}
}

// comparableMember is a member whose zero value means that it is not set.
func comparableMember[T comparable](name, help string, at func(*Settings) *T, standard T) *Field {
	var zero T
	f := member(name, help, at, func(v T) bool { return v != zero })
	f.equal = func(a, b *Settings) bool { return *at(a) == *at(b) }
	f.fill = func(s *Settings) {
		if *at(s) == zero {
			*at(s) = standard
		}
	}
	return f
}

// choice is one of some words, the first by default. Another word may be one that a newer build knows.
func choice[T ~string](name string, at func(*Settings) *T, help string, allowed ...T) *Field {
	f := comparableMember(name, help, at, allowed[0])
	f.Read = func(text string) (json.RawMessage, error) { return json.Marshal(text) }
	f.check = func(s *Settings) error {
		if v := *at(s); v != "" && !slices.Contains(allowed, v) {
			return sinks.Unknown(fmt.Errorf("%s %q: must be %s", name, v, or(allowed)))
		}
		return nil
	}
	return f
}

// or lists words as a sentence does: key, none or strict.
func or[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// count is a number from 1 to most. With standard 0, its default is said elsewhere.
func count(name string, at func(*Settings) *int, standard, most int, help string) *Field {
	f := comparableMember(name, help, at, standard)
	f.Read = func(text string) (json.RawMessage, error) {
		v, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || v < 1 {
			return nil, errors.New("must be a whole number, at least 1")
		}
		return json.Marshal(v)
	}
	f.check = func(s *Settings) error {
		if v := *at(s); v < 0 || v > most {
			return fmt.Errorf("%s %d: must be from 1 to %d", name, v, most)
		}
		return nil
	}
	return f
}

// flag is true or, by default, false.
func flag(name string, at func(*Settings) *bool, help string) *Field {
	f := comparableMember(name, help, at, false)
	f.Read = func(text string) (json.RawMessage, error) {
		v, err := strconv.ParseBool(strings.TrimSpace(text))
		if err != nil {
			return nil, errors.New("must be true or false")
		}
		return json.Marshal(v)
	}
	return f
}

// inCEL is an expression, which is compiled to see whether it is right.
func inCEL(name string, at func(*Settings) *string, compile func(text string) (*expression.Program, error), help string) *Field {
	f := comparableMember(name, help, at, "")
	f.Read = func(text string) (json.RawMessage, error) { return json.Marshal(text) }
	f.check = func(s *Settings) error {
		if *at(s) == "" {
			return nil
		}
		if _, err := compile(*at(s)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	return f
}

// wait is a duration up to most, if that is not 0.
func wait(name string, at func(*Settings) *Duration, most time.Duration, help string) *Field {
	f := comparableMember(name, help, at, 0)
	f.Read = func(text string) (json.RawMessage, error) {
		d, err := ParseDuration(text)
		if err != nil {
			return nil, err
		}
		return json.Marshal(d)
	}
	f.check = func(s *Settings) error {
		if v := time.Duration(*at(s)); most != 0 && (v < 0 || v > most) {
			return fmt.Errorf("%s %s: must be from 0s to %s", name, v, most)
		}
		return nil
	}
	return f
}

// limits are what a span must be within, and what it is by default.
type limits struct{ least, most, standard time.Duration }

// span is a duration that is never nothing.
func span(name string, at func(*Settings) *Duration, within limits, help string) *Field {
	f := wait(name, at, 0, help)
	f.fill = func(s *Settings) {
		if *at(s) == 0 {
			*at(s) = Duration(within.standard)
		}
	}
	f.check = func(s *Settings) error {
		if v := time.Duration(*at(s)); v != 0 && (v < within.least || v > within.most) {
			return fmt.Errorf("%s %s: must be from %s to %s", name, v, within.least, within.most)
		}
		return nil
	}
	return f
}

// waits is a list of at most so many durations, each up to longest.
func waits(name string, at func(*Settings) *[]Duration, most int, longest time.Duration, help string) *Field {
	f := member(name, help, at, func(v []Duration) bool { return len(v) > 0 })
	f.Shape = List
	f.equal = func(a, b *Settings) bool { return slices.Equal(*at(a), *at(b)) }
	f.Read = func(text string) (json.RawMessage, error) {
		var list []Duration
		for item := range strings.SplitSeq(text, ",") {
			d, err := ParseDuration(item)
			if err != nil {
				return nil, fmt.Errorf("each of the list %w", err)
			}
			list = append(list, d)
		}
		return json.Marshal(list)
	}
	f.check = func(s *Settings) error {
		if n := len(*at(s)); n > most {
			return fmt.Errorf("%s of %d waits: at most %d may be given", name, n, most)
		}
		for _, wait := range *at(s) {
			if wait < 0 || time.Duration(wait) > longest {
				return fmt.Errorf("%s %v: each wait must be from 0s to %s", name, *at(s), longest)
			}
		}
		return nil
	}
	return f
}

// object is a JSON object.
func object(name string, at func(*Settings) *json.RawMessage, help string) *Field {
	f := member(name, help, at, func(v json.RawMessage) bool { return len(v) > 0 })
	f.Shape = Object
	f.equal = func(a, b *Settings) bool { return sameJSON(*at(a), *at(b)) }
	f.Read = func(text string) (json.RawMessage, error) { return readObject(text, `{"rate": 10}`) }
	f.check = func(s *Settings) error {
		if v := *at(s); len(v) > 0 && v[0] != '{' {
			return fmt.Errorf("%s: must be a JSON object", name)
		}
		return nil
	}
	return f
}

// readObject takes an object, such as the example, with or without blanks.
func readObject(text, example string) (json.RawMessage, error) {
	var compact bytes.Buffer
	wanted := "must be a JSON object, such as " + example
	if err := json.Compact(&compact, []byte(text)); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("%s; it is no JSON: %s at byte %d", wanted, err, syntax.Offset)
		}
		return nil, errors.New(wanted)
	}
	if compact.Bytes()[0] != '{' {
		return nil, errors.New(wanted)
	}
	return compact.Bytes(), nil
}
