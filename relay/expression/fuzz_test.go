package expression

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
)

// FuzzFilter: any text is compiled or refused with its places, and what compiles says something of a message soon.
func FuzzFilter(f *testing.F) {
	for _, text := range []string{`payload.total > 100 && headers.region == "eu"`, `payload.items.all(i, i.n > 1)`, `has(payload.a.b) ? true : payload.?c.orValue(false)`, `topic.matches("^a")`,
		`((((((`, `[[[[`, `"`, "a\nb", `payload.x.map(i, i).filter(j, j > 1).size() == 1u`, `b"a" == body`, strings.Repeat("(", 500), strings.Repeat("!", 500) + "true", strings.Repeat("[", 300) + strings.Repeat("]", 300)} {
		f.Add(text)
	}
	m := order()
	f.Fuzz(func(t *testing.T, text string) {
		began := time.Now()
		p, err := Filter(text)
		if err != nil {
			problems, ok := errors.AsType[CompileError](err)
			if !ok || len(problems) == 0 {
				t.Fatalf("%q is refused with %v", text, err)
			}
			for _, p := range problems {
				if p.Line < 1 || p.column < 1 || p.Line > 1+strings.Count(text, "\n")+strings.Count(text, "\r") || strings.TrimSpace(p.text) == "" {
					t.Fatalf("%q is refused at line %d, column %d: %q", text, p.Line, p.column, p.text)
				}
			}
		} else if _, cost, err := p.Wants(m, new(Memo)); cost < 1 || cost > maxCost+1 {
			t.Fatalf("%q costs %d, %v", text, cost, err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Fatalf("%q took %s", text, took)
		}
	})
}

// FuzzReadJSON: what encoding/json reads is read alike, and nothing else is but what it is lenient about.
func FuzzReadJSON(f *testing.F) {
	for _, text := range []string{string(order().Payload), `[1, -2, 3.5e3, "a\u00e9\n", true, false, null, {}, []]`, `{"a": {"b": [{"c": 1}]}}`, `"`, `{`, `[1,]`, `{"a" 1}`, `01`, `-`, `1e999`, ` 7 `, `"\ud800"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		is, size, err := readJSON(bytes.Clone(text))
		if err == nil && size < len(text) {
			t.Fatalf("%q takes %d bytes", text, size)
		}
		var want any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if d.Decode(&want) != nil || d.More() {
			return // what PostgreSQL would not have written
		}
		if err != nil {
			if errors.Is(err, errNoUTF8) || errors.Is(err, errNoJSON) && !json.Valid(text) {
				return
			}
			t.Fatalf("%q is refused: %v", text, err)
		}
		if !same(is, want) {
			t.Fatalf("%q is read as %#v, want %#v", text, is, want)
		}
	})
}

// same compares with what encoding/json has read, numbers as texts.
func same(is, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		object, ok := is.(map[string]any)
		if !ok || len(object) != len(want) {
			return false
		}
		for name := range want {
			if !same(object[name], want[name]) {
				return false
			}
		}
		return true
	case []any:
		list, ok := is.([]any)
		if !ok || len(list) != len(want) {
			return false
		}
		for i := range want {
			if !same(list[i], want[i]) {
				return false
			}
		}
		return true
	case json.Number:
		switch is := is.(type) {
		case int64:
			n, err := want.Int64()
			return err == nil && n == is
		case float64:
			n, err := want.Float64()
			return err == nil && n == is
		case *types.Err:
			_, err := want.Float64()
			return err != nil
		}
		return false
	}
	return reflect.DeepEqual(is, want)
}
