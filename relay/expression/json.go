package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"cel.dev/cel-go/common/types"
)

// reader reads JSON that PostgreSQL has written into what expressions work with: nil, bool, int64, float64, string, []any and
// map[string]any. Texts without escapes are parts of what was read. A number that is too large is an error only for who asks for it.
type reader struct {
	text  []byte
	at    int
	depth int
	bytes int // about what all values take
}

// What values take beside their texts, about.
const (
	valueBytes = 24
	entryBytes = 64
	maxDepth   = 10_000
	maxBytes   = 32 << 20 // of all values: a payload that takes more is too large to be looked at
)

var (
	errNoJSON   = errors.New("the payload is no JSON")
	errNoUTF8   = errors.New("the payload is not UTF-8")
	errTooLarge = fmt.Errorf("the payload would take more than %d MiB to be looked at", maxBytes>>20)
	errTooDeep  = fmt.Errorf("the payload is nested more than %d deep", maxDepth)
)

// readJSON returns the value of a text, and about how many bytes it takes.
func readJSON(text []byte) (value any, size int, err error) {
	if !utf8.Valid(text) {
		return nil, 0, errNoUTF8
	}
	r := &reader{text: text, bytes: len(text)} // of which texts are parts
	if value, err = r.value(); err != nil {
		return nil, 0, err
	}
	if r.blanks(); r.at < len(text) {
		return nil, 0, errNoJSON
	}
	return value, r.bytes, nil
}

// blanks passes over what stands between values.
func (r *reader) blanks() {
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\n' || r.text[r.at] == '\t' || r.text[r.at] == '\r') {
		r.at++
	}
}

// next is the first byte after blanks, 0 at the end.
func (r *reader) next() byte {
	if r.blanks(); r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

// value reads a value of any kind, as far as there is room for it.
func (r *reader) value() (any, error) {
	if r.bytes += valueBytes; r.bytes > maxBytes {
		return nil, errTooLarge
	}
	switch r.next() {
	case '{':
		return r.object()
	case '[':
		return r.list()
	case '"':
		return r.string()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	}
	return r.number()
}

// word reads true, false or null.
func (r *reader) word(word string) error {
	end := r.at + len(word)
	if end > len(r.text) || string(r.text[r.at:end]) != word {
		return errNoJSON
	}
	r.at = end
	return nil
}

// enter begins an object or a list.
func (r *reader) enter() error {
	r.at++
	if r.depth++; r.depth > maxDepth {
		return errTooDeep
	}
	return nil
}

// more says whether another element follows: the first one, or one after a comma. Else the end was read.
func (r *reader) more(end byte, first bool) (bool, error) {
	switch c := r.next(); {
	case c == end:
		r.at++
		r.depth--
		return false, nil
	case first:
		return true, nil
	case c == ',':
		r.at++
		return true, nil
	}
	return false, errNoJSON
}

// object reads an object. Of a name that comes twice, which PostgreSQL does not write, the last value counts.
func (r *reader) object() (any, error) {
	object := make(map[string]any)
	r.bytes += entryBytes
	err := r.enter()
	for first := true; err == nil; first = false {
		more := false
		if more, err = r.more('}', first); !more {
			break
		}
		err = r.member(object)
	}
	return object, err
}

// member reads a name and its value.
func (r *reader) member(object map[string]any) error {
	if r.next() != '"' {
		return errNoJSON
	}
	name, err := r.string()
	if err != nil {
		return err
	}
	if r.next() != ':' {
		return errNoJSON
	}
	r.at++
	r.bytes += entryBytes
	object[name], err = r.value()
	return err
}

// list reads a list.
func (r *reader) list() (any, error) {
	list := []any{}
	r.bytes += valueBytes
	err := r.enter()
	for first := true; err == nil; first = false {
		more := false
		if more, err = r.more(']', first); !more {
			break
		}
		var v any
		v, err = r.value()
		list = append(list, v)
	}
	return list, err
}

// string reads a text, which is a part of what is read unless it has escapes.
func (r *reader) string() (string, error) {
	begin, escaped := r.at, false
	for r.at++; r.at < len(r.text); r.at++ {
		switch r.text[r.at] {
		case '\\':
			escaped = true
			r.at++
		case '"':
			r.at++
			if quoted := r.text[begin:r.at]; escaped {
				return r.unescaped(quoted)
			}
			return textOf(r.text[begin+1 : r.at-1]), nil
		}
	}
	return "", errNoJSON
}

func (r *reader) unescaped(quoted []byte) (s string, err error) {
	if json.Unmarshal(quoted, &s) != nil {
		return "", errNoJSON
	}
	r.bytes += len(s)
	return s, nil
}

// textOf is the text of a part of the payload, into which nobody writes.
func textOf(part []byte) string { return unsafe.String(unsafe.SliceData(part), len(part)) }

// number reads a number: an int64 if it is whole and fits, else a float64.
func (r *reader) number() (any, error) {
	begin := r.at
	for r.at < len(r.text) && strings.IndexByte("0123456789-+.eE", r.text[r.at]) >= 0 {
		r.at++
	}
	word := textOf(r.text[begin:r.at])
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return n, nil
	}
	n, err := strconv.ParseFloat(word, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return types.NewErr("the number %.20s… is too large", word), nil
	case err != nil:
		return nil, errNoJSON
	}
	return n, nil
}
