package store

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// named is a statement whose parameters have names. They are numbered once: the server, which prepares it, knows no names.
type named struct {
	sql   string
	names []string
}

var parameter = regexp.MustCompile(`@[a-z_]+`)

// newNamed numbers the parameters (@name) in the order in which they come first.
func newNamed(text string) named {
	var n named
	n.sql = parameter.ReplaceAllStringFunc(text, func(name string) string {
		at := slices.Index(n.names, name[1:])
		if at < 0 {
			at = len(n.names)
			n.names = append(n.names, name[1:])
		}
		return "$" + strconv.Itoa(at+1)
	})
	return n
}

// bind returns the values in the statement's order. It panics if one is missing, or is not a parameter: that is a programmer's mistake.
func (n named) bind(values map[string]any) []any {
	if len(values) != len(n.names) {
		panic(fmt.Sprintf("%d values for %d parameters (%q)", len(values), len(n.names), n.names))
	}
	args := make([]any, len(n.names))
	for i, name := range n.names {
		value, ok := values[name]
		if !ok {
			panic(fmt.Sprintf("no value for the parameter @%s", name))
		}
		args[i] = value
	}
	return args
}
