package expression

import (
	"errors"
	"fmt"

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
	memory := memo.memory(m)
	f := memory.find(p)
	f.once.Do(func() {
		value, details, err := p.programFor(m).Eval(memory)
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
