// Package strict decodes JSON that a person has written into structs, and says what is wrong in that person's words: by the keys of
// the text, never by the types of the program. Values are not shown, as one may be a secret in the wrong place.
package strict

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Problem is what is wrong with the value of a key.
type Problem struct {
	Path    []string // the keys that lead to it
	Text    string
	unknown bool // the last key itself
}

// Problems are all that is wrong with a text, in the order of keys.
type Problems []Problem

// Error names each problem's key.
func (p Problems) Error() string {
	var texts []string
	for _, one := range p {
		texts = append(texts, one.String())
	}
	return strings.Join(texts, "; ")
}

// String begins with the key.
func (p Problem) String() string {
	path := p.Path
	if p.unknown {
		path = path[:len(path)-1]
	}
	if len(path) == 0 {
		return p.Text
	}
	return strings.ReplaceAll(strings.Join(path, "."), ".[", "[") + ": " + p.Text
}

// Unmarshal decodes text into the struct that to points to. A key that the struct does not have is an error, and so is a value of
// another kind. Errors are Problems, but for a text that is no JSON at all.
func Unmarshal(text []byte, to any) error {
	if err := syntax(text); err != nil {
		return err
	}
	if problems := check(nil, text, reflect.TypeOf(to).Elem()); len(problems) > 0 {
		return Problems(problems)
	}
	return json.Unmarshal(text, to)
}

// Value decodes the value of a key into what to points to, and returns what is wrong with it.
func Value(key string, text json.RawMessage, to any) []Problem {
	problems := check([]string{key}, text, reflect.TypeOf(to).Elem())
	if len(problems) == 0 {
		if err := json.Unmarshal(text, to); err != nil {
			return problem([]string{key}, "%s", err)
		}
	}
	return problems
}

// Members decodes an object whose keys are known by name: decode is called for each. An error is for a text that is no JSON at all.
func Members(text []byte, known []string, decode func(key string, value json.RawMessage) []Problem) (Problems, error) {
	if err := syntax(text); err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return problem(nil, "must be a JSON object, not %s", kindOf(text)), nil
	}
	var problems Problems
	for _, key := range slices.Sorted(maps.Keys(members)) {
		i := slices.IndexFunc(known, func(name string) bool { return strings.EqualFold(name, key) }) // as encoding/json has it
		if i < 0 {
			problems = append(problems, Problem{[]string{key}, Unknown(known, key), true})
			continue
		}
		problems = append(problems, decode(known[i], members[key])...)
	}
	return problems, nil
}

// OnlyUnknown reports whether keys that are not known are all that is wrong.
func (p Problems) OnlyUnknown() bool {
	return !slices.ContainsFunc(p, func(one Problem) bool { return !one.unknown })
}

func syntax(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	var first json.RawMessage
	err := d.Decode(&first)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("is no JSON: %s at byte %d", syntax, syntax.Offset)
	}
	if err != nil {
		return errors.New("is no JSON: it ends too soon")
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	return nil
}

var textual = reflect.TypeFor[encoding.TextUnmarshaler]()

// check finds what of raw does not fit into t.
func check(path []string, raw json.RawMessage, t reflect.Type) []Problem {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	is := kindOf(raw)
	switch {
	case is == "nothing" || t == reflect.TypeFor[json.RawMessage]():
		return nil
	case reflect.PointerTo(t).Implements(textual):
		return checkText(path, raw, t)
	case t.Kind() == reflect.Struct:
		return checkObject(path, raw, func(key string) (reflect.Type, string) { return field(t, key) })
	case t.Kind() == reflect.Map:
		return checkObject(path, raw, func(string) (reflect.Type, string) { return t.Elem(), "" })
	case t.Kind() == reflect.Slice:
		return checkList(path, raw, t.Elem())
	}
	if json.Unmarshal(raw, reflect.New(t).Interface()) != nil {
		return problem(path, "must be %s, not %s", wanted(t), is)
	}
	return nil
}

func checkText(path []string, raw json.RawMessage, t reflect.Type) []Problem {
	var text string
	value := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	switch kind := kindOf(raw); {
	case kind == "an object" || kind == "a list":
		return problem(path, "must be a text, not %s", kind)
	case json.Unmarshal(raw, &text) != nil:
		text = string(raw) // what the type says of it tells what it wants
	}
	if err := value.UnmarshalText([]byte(text)); err != nil {
		return problem(path, "%s", err)
	}
	if kind := kindOf(raw); kind != "a text" {
		return problem(path, "must be a text, in quotes, not %s", kind)
	}
	return nil
}

func problem(path []string, format string, args ...any) []Problem {
	return []Problem{{Path: path, Text: fmt.Sprintf(format, args...)}}
}

func checkObject(path []string, raw json.RawMessage, find func(key string) (reflect.Type, string)) (problems []Problem) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return problem(path, "must be a JSON object, not %s", kindOf(raw))
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		at := append(slices.Clip(path), key)
		if t, unknown := find(key); t == nil {
			problems = append(problems, Problem{at, unknown, true})
		} else {
			problems = append(problems, check(at, members[key], t)...)
		}
	}
	return problems
}

func checkList(path []string, raw json.RawMessage, t reflect.Type) (problems []Problem) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return problem(path, "must be a list, not %s", kindOf(raw))
	}
	for i, item := range items {
		problems = append(problems, check(append(slices.Clip(path), fmt.Sprintf("[%d]", i)), item, t)...)
	}
	return problems
}

// field returns the type of a struct's field by its name in JSON, or what to say of a key that has none.
func field(t reflect.Type, key string) (reflect.Type, string) {
	var known []string
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue // its own fields are among them
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if strings.EqualFold(name, key) { // as encoding/json has it
			return f.Type, ""
		}
		known = append(known, name)
	}
	return nil, Unknown(known, key)
}

// Unknown says that a key is not one of those that are known, and which was probably meant.
func Unknown(known []string, key string) string {
	text := fmt.Sprintf("unknown key %q: known here: %s", key, strings.Join(known, ", "))
	if near := Nearest(key, known); near != "" && len(known) > 1 {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return text
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// kindOf names what a value is.
func kindOf(raw json.RawMessage) string {
	switch raw = bytes.TrimSpace(raw); raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a text"
	case 't', 'f':
		return string(raw)
	case 'n':
		return "nothing"
	}
	if bytes.ContainsAny(raw, ".eE") {
		return "a number with a fraction"
	}
	return "a number"
}
