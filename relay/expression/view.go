package expression

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// What expressions see of a message. What it takes time to read is read when it is wanted, once for all.
var _ cel.Activation = (*memory)(nil)

// part names what is read for all programs.
type part string

// ResolveName implements cel.Activation.
func (v *memory) ResolveName(name string) (any, bool) {
	switch name {
	case "topic":
		return v.m.Topic, true
	case "key":
		return v.m.Key, true
	case "id":
		return v.m.ID, true
	case "priority":
		return int64(v.m.Priority), true
	case "created_at":
		return v.m.CreatedAt, true
	case "headers":
		return v.read("headers", v.headers), true
	case "payload":
		if v.m.JSON {
			return v.read("payload", v.payload), true
		}
		return types.NullValue, true
	case "body":
		if v.m.JSON {
			return types.NullValue, true
		}
		return v.m.Payload, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (*memory) Parent() cel.Activation { return nil }

// read returns a part of the message; an error is its value.
func (v *memory) read(name part, read func(f *finding)) any {
	if name == "payload" && readers.Load() < 2 {
		f := new(finding) // nobody else has a use for it
		read(f)
		return f.value()
	}
	f := v.find(name)
	f.once.Do(func() { read(f) })
	return f.value()
}

// value is what expressions get: an error is one, too.
func (f *finding) value() any {
	if f.err != nil {
		return types.WrapErr(f.err)
	}
	return f.is
}

// headers reads the headers: none are an empty map, for has(…) to look into.
func (v *memory) headers(f *finding) {
	headers, err := v.m.HeaderMap()
	if f.err = err; headers == nil {
		headers = map[string]string{}
	}
	f.is = headers
}

// payload reads the payload. It takes several times as much memory as its text, so that it does not stay for long.
func (v *memory) payload(f *finding) {
	var size int
	f.is, size, f.err = readJSON(v.m.Payload)
	if f.is == nil && f.err == nil {
		f.is = types.NullValue
	}
	if f.what != nil {
		large.keep(v, f, size)
	}
}
