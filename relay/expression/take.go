package expression

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/postrider/postrider/sinks"
)

// errType says that a value is of another type than is wanted.
var errType = errors.New("of another type")

// takeBool takes the value of a filter.
func takeBool(v ref.Val, _ *sinks.Message) (any, error) {
	if is, ok := v.(types.Bool); ok {
		return bool(is), nil
	}
	return nil, errType
}

// takeName takes what messages are told apart by. It keeps no part of the message.
func takeName(v ref.Val, _ *sinks.Message) (any, error) {
	if name, ok := nameOf(v); ok {
		return name, nil
	}
	return nil, errType
}

// nameOf writes a simple value as a text.
func nameOf(v ref.Val) (string, bool) {
	switch v := v.(type) {
	case types.String:
		return strings.Clone(string(v)), true
	case types.Int:
		return strconv.FormatInt(int64(v), 10), true
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10), true
	case types.Bool:
		return strconv.FormatBool(bool(v)), true
	}
	return "", false
}

// takeJSON takes a payload, as JSON.
func takeJSON(v ref.Val, m *sinks.Message) (any, error) {
	w := writer{most: max(maxMade, 2*len(m.Payload))}
	if w.value(v); w.err != nil {
		return nil, w.err
	}
	return w.text, nil
}

// takeHeaders takes texts by name, nil for what is to be taken out.
func takeHeaders(v ref.Val, _ *sinks.Message) (any, error) {
	all, ok := v.(traits.Mapper)
	if !ok {
		return nil, errType
	}
	texts := make(map[string]*string)
	for i := all.Iterator(); i.HasNext() == types.True; {
		key := i.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, errType
		}
		switch is := all.Get(key).(type) {
		case types.Null:
			texts[strings.Clone(string(name))] = nil
		case types.String:
			texts[strings.Clone(string(name))] = new(strings.Clone(string(is)))
		default:
			return nil, fmt.Errorf("%q: must be a text, or null to take it out, and is of type %s: string(…) makes a text of it", string(name), is.Type().TypeName())
		}
	}
	return texts, nil
}

// takeTopic takes a topic.
func takeTopic(v ref.Val, _ *sinks.Message) (any, error) {
	is, ok := v.(types.String)
	if !ok {
		return nil, errType
	}
	return strings.Clone(string(is)), checkTopic(string(is))
}

// sizeOf is how much room something that was taken needs, 0 if that is next to none.
func sizeOf(is any) (size int) {
	switch is := is.(type) {
	case []byte:
		size = len(is)
	case map[string]*string:
		for name, value := range is {
			if size += len(name) + entryBytes; value != nil {
				size += len(*value)
			}
		}
	}
	return size
}
