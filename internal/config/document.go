package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// document is a YAML file that is read node by node instead of being decoded, because a decoder stops at the first problem.
type document struct {
	anchors  anchors
	problems []problem
	merging  []*ast.MappingNode // being read, each merged into the one before it
}

// problem is what is wrong at a line of the file.
type problem struct {
	line int
	text string
}

func (p problem) error(path string) error { return fmt.Errorf("%s:%d: %s", path, p.line, p.text) }

func (d *document) problem(line int, format string, args ...any) {
	// A pattern list may have several problems: one line each.
	for text := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		d.problems = append(d.problems, problem{line, text})
	}
}

// report makes one error of all problems, in the order of their lines.
func (d *document) report(path string) error {
	switch len(d.problems) {
	case 0:
		return nil
	case 1:
		return d.problems[0].error(path)
	}
	slices.SortStableFunc(d.problems, func(a, b problem) int { return a.line - b.line })
	lines := []error{fmt.Errorf("%s has %d problems", path, len(d.problems))}
	for _, p := range d.problems {
		lines = append(lines, p.error(path))
	}
	return errors.Join(lines...)
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	line  int
	value ast.Node
}

// anchors are the values that an &anchor names, for *aliases further down.
type anchors map[string]ast.Node

// resolve follows anchors and aliases to the value itself.
func (a anchors) resolve(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.AnchorNode:
		value := a.resolve(n.Value)
		a[n.Name.String()] = value
		return value
	case *ast.AliasNode:
		if value, ok := a[n.Value.String()]; ok {
			return value
		}
	case *ast.TagNode:
		return a.resolve(n.Value)
	}
	return n
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil {
		return t.Position.Line
	}
	return 1
}

// mapping returns the entries of a mapping; those of a merge key (<<) come where the mapping has no own.
func (d *document) mapping(n ast.Node, what string) ([]entry, bool) {
	m, ok := d.anchors.resolve(n).(*ast.MappingNode)
	if !ok {
		d.problem(line(n), "%s must be a mapping of keys to values", what)
		return nil, false
	}
	if slices.Contains(d.merging, m) {
		d.problem(line(n), "%s is the mapping that << stands in", what)
		return nil, false
	}
	d.merging = append(d.merging, m)
	defer func() { d.merging = d.merging[:len(d.merging)-1] }()
	own := map[string]bool{}
	var entries, merged []entry
	for _, v := range m.Values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			more, _ := d.mapping(v.Value, "what << merges")
			merged = append(merged, more...)
			continue
		}
		key := v.Key.GetToken().Value
		own[key] = true
		entries = append(entries, entry{key, line(v.Key), v.Value})
	}
	for _, e := range merged {
		if !own[e.key] {
			own[e.key] = true
			entries = append(entries, e)
		}
	}
	return entries, true
}

func (d *document) sequence(n ast.Node, what string) ([]ast.Node, bool) {
	s, ok := d.anchors.resolve(n).(*ast.SequenceNode)
	if !ok {
		d.problem(line(n), "%s must be a list", what)
		return nil, false
	}
	return s.Values, true
}

// scalar returns the text of a single value as it stands in the file: what it means is decided by the setting.
func (d *document) scalar(n ast.Node, what string) (string, bool) {
	switch v := d.anchors.resolve(n).(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.NullNode:
		d.problem(line(n), "%s is empty", what)
		return "", false
	case ast.ScalarNode:
		return v.GetToken().Value, true
	}
	d.problem(line(n), "%s must be a single value", what)
	return "", false
}

// lineOf returns the line of the value to which a path of keys leads, as far as it leads; at is the line of n itself.
func (d *document) lineOf(n ast.Node, at int, path []string) int {
	return d.find(entry{value: n, line: at}, path).line
}

// find returns the entry to which a path of keys leads from another one, as far as it leads.
func (d *document) find(from entry, path []string) entry {
	m, ok := d.anchors.resolve(from.value).(*ast.MappingNode)
	if !ok || len(path) == 0 {
		return from
	}
	entries, _ := d.mapping(m, "options")
	for _, e := range entries {
		if e.key == path[0] {
			return d.find(e, path[1:])
		}
	}
	return from
}

// value returns what a node means, as JSON has it.
func (d *document) value(n ast.Node) (any, bool) {
	switch v := d.anchors.resolve(n).(type) {
	case *ast.NullNode:
		return nil, true
	case *ast.BoolNode:
		return v.Value, true
	case *ast.IntegerNode:
		return v.Value, true
	case *ast.FloatNode:
		return v.Value, true
	case *ast.SequenceNode:
		list := make([]any, 0, len(v.Values))
		for _, item := range v.Values {
			one, ok := d.value(item)
			if !ok {
				return nil, false
			}
			list = append(list, one)
		}
		return list, true
	case *ast.MappingNode:
		entries, ok := d.mapping(v, "a mapping")
		object := make(map[string]any, len(entries))
		for _, e := range entries {
			one, itemOK := d.value(e.value)
			object[e.key], ok = one, ok && itemOK
		}
		return object, ok
	}
	return d.scalar(n, "a value")
}
