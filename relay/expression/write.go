package expression

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// writer writes values as JSON, members in the order of their names: what is made of a message is the same whenever it is made.
type writer struct {
	text  []byte
	most  int // bytes
	depth int
	err   error // what was wrong first
}

var errOptional = errors.New("its value has an optional value in it, which may be none: orValue(…) says what there is instead")

// fail notes what is wrong: nothing is written any more.
func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// put writes a piece of the text.
func (w *writer) put(piece string) {
	if w.err != nil {
		return
	}
	if w.text = append(w.text, piece...); len(w.text) > w.most {
		w.fail(fmt.Errorf("its value has more than %d bytes as JSON", w.most))
	}
}

// value writes a value: first those that most are.
func (w *writer) value(v ref.Val) {
	if w.err != nil {
		return
	}
	switch v := v.(type) {
	case types.Null:
		w.put("null")
	case types.Bool:
		w.put(strconv.FormatBool(bool(v)))
	case types.Int:
		w.put(strconv.FormatInt(int64(v), 10))
	case types.Uint:
		w.put(strconv.FormatUint(uint64(v), 10))
	case types.Double:
		w.double(float64(v))
	case types.String:
		w.quoted(string(v))
	default:
		w.other(v)
	}
}

// other writes what is no JSON by itself, or has others in it.
func (w *writer) other(v ref.Val) {
	switch v := v.(type) {
	case types.Bytes:
		w.quoted(base64.StdEncoding.EncodeToString(v))
	case types.Timestamp:
		w.quoted(v.Time.UTC().Format(time.RFC3339Nano))
	case types.Duration:
		w.quoted(strconv.FormatFloat(v.Seconds(), 'f', -1, 64) + "s")
	case traits.Mapper:
		w.nested(func() { w.object(v) })
	case traits.Lister:
		w.nested(func() { w.list(v) })
	case *types.Optional:
		w.fail(errOptional)
	case *types.Err:
		w.fail(v)
	default:
		w.fail(fmt.Errorf("its value has a %s in it, which JSON does not know", v.Type().TypeName()))
	}
}

// nested writes what has values in it, as deep as may be read.
func (w *writer) nested(write func()) {
	if w.depth++; w.depth > maxDepth {
		w.fail(errTooDeep)
		return
	}
	write()
	w.depth--
}

// double writes a number with a fraction as encoding/json does: as short as it can be.
func (w *writer) double(d float64) {
	if math.IsNaN(d) || math.IsInf(d, 0) {
		w.fail(fmt.Errorf("its value has the number %v in it, which JSON does not know", d))
		return
	}
	text, err := json.Marshal(d)
	if err != nil {
		w.fail(err)
	}
	w.put(string(text))
}

// quoted writes a text, with no more escapes than it takes.
func (w *writer) quoted(text string) {
	if len(text) > w.most {
		w.put(text) // which is too much
		return
	}
	if strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) < 0 {
		w.put(`"`)
		w.put(text)
		w.put(`"`)
		return
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		w.fail(err)
	}
	w.put(strings.TrimSuffix(b.String(), "\n"))
}

// list writes values in their order.
func (w *writer) list(l traits.Lister) {
	w.put("[")
	for i := l.Iterator(); w.err == nil && i.HasNext() == types.True; {
		if w.text[len(w.text)-1] != '[' {
			w.put(",")
		}
		w.value(i.Next())
	}
	w.put("]")
}

// object writes values by their names. Keys that are no texts are written as such.
func (w *writer) object(m traits.Mapper) {
	values := make(map[string]ref.Val)
	for i := m.Iterator(); i.HasNext() == types.True; {
		key := i.Next()
		name, ok := nameOf(key)
		if _, twice := values[name]; !ok || twice {
			w.fail(fmt.Errorf("its value has the key %v in it, which is no name, or is there twice", key.Value()))
			return
		}
		values[name] = m.Get(key)
	}
	w.put("{")
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			w.put(",")
		}
		w.quoted(name)
		w.put(":")
		w.value(values[name])
	}
	w.put("}")
}

// texts writes an object of texts.
func (w *writer) texts(all map[string]string) {
	w.put("{")
	for i, name := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			w.put(",")
		}
		w.quoted(name)
		w.put(":")
		w.quoted(all[name])
	}
	w.put("}")
}
