package expression

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/postrider/postrider/sinks"
)

// Wants says whether a filter wants the message, and what it has cost to know, in CEL's units: nothing if somebody has asked before. An error
// is one of the expression on this message.
func (p *Program) Wants(m *sinks.Message, memo *Memo) (wants bool, cost int, err error) {
	is, cost, err := p.of(m, memo)
	wants, _ = is.(bool)
	return wants, cost, err
}

// Value is by what a message is told apart; cost and errors are as those of Wants.
func (p *Program) Value(m *sinks.Message, memo *Memo) (value string, cost int, err error) {
	is, cost, err := p.of(m, memo)
	value, _ = is.(string)
	return value, cost, err
}

// of returns what the program says of the message, evaluating it if nobody has.
func (p *Program) of(m *sinks.Message, memo *Memo) (is any, cost int, err error) {
	memory := memo.memory()
	f := memory.find(p)
	f.once.Do(func() {
		value, details, err := p.program.Eval(view{m, memory})
		if cost = 1; details.ActualCost() != nil {
			cost += int(min(*details.ActualCost(), maxCost))
		}
		if err != nil {
			f.err = errorOf(err)
			return
		}
		if f.is, f.err = p.kind.take(value, m); errors.Is(f.err, errType) {
			f.err = fmt.Errorf("its value %s, and is of type %s", p.kind.wants, value.Type().TypeName())
		}
		if size := sizeOf(f.is); size > 0 {
			large.keep(memory, f, size)
		}
	})
	return f.is, cost, f.err
}

// view is a message as expressions see it. What it takes time to read is read when it is wanted, once for all.
type view struct {
	m      *sinks.Message
	memory *memory
}

var _ cel.Activation = view{}

// part names what is read for all programs.
type part string

// ResolveName implements cel.Activation.
func (v view) ResolveName(name string) (any, bool) {
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
func (view) Parent() cel.Activation { return nil }

// read returns a part of the message; an error is its value.
func (v view) read(name part, read func(f *finding)) any {
	f := v.memory.find(name)
	f.once.Do(func() { read(f) })
	if f.err != nil {
		return types.WrapErr(f.err)
	}
	return f.is
}

// headers reads the headers: none are an empty map, for has(…) to look into.
func (v view) headers(f *finding) {
	headers, err := v.m.HeaderMap()
	if f.err = err; headers == nil {
		headers = map[string]string{}
	}
	f.is = headers
}

// payload reads the payload. It takes several times as much memory as its text, so that it does not stay for long.
func (v view) payload(f *finding) {
	var size int
	f.is, size, f.err = readJSON(v.m.Payload)
	if f.is == nil && f.err == nil {
		f.is = types.NullValue
	}
	large.keep(v.memory, f, size)
}
