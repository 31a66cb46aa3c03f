package config

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// The reader walks the parsed file instead of decoding it, because a decoder stops at the first problem.

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
func (r *fileReader) mapping(n ast.Node, what string) ([]entry, bool) {
	m, ok := r.anchors.resolve(n).(*ast.MappingNode)
	if !ok {
		r.problem(line(n), "%s must be a mapping of keys to values", what)
		return nil, false
	}
	if slices.Contains(r.merging, m) {
		r.problem(line(n), "%s is the mapping that << stands in", what)
		return nil, false
	}
	r.merging = append(r.merging, m)
	defer func() { r.merging = r.merging[:len(r.merging)-1] }()
	own := map[string]bool{}
	var entries, merged []entry
	for _, v := range m.Values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			more, _ := r.mapping(v.Value, "what << merges")
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

func (r *fileReader) sequence(n ast.Node, what string) ([]ast.Node, bool) {
	s, ok := r.anchors.resolve(n).(*ast.SequenceNode)
	if !ok {
		r.problem(line(n), "%s must be a list", what)
		return nil, false
	}
	return s.Values, true
}

// scalar returns the text of a single value as it stands in the file: what it means is decided by the setting.
func (r *fileReader) scalar(n ast.Node, what string) (string, bool) {
	switch v := r.anchors.resolve(n).(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.NullNode:
		r.problem(line(n), "%s is empty", what)
		return "", false
	case ast.ScalarNode:
		return v.GetToken().Value, true
	}
	r.problem(line(n), "%s must be a single value", what)
	return "", false
}

// lineOf returns the line of the value to which a path of keys leads, as far as it leads; at is the line of n itself.
func (r *fileReader) lineOf(n ast.Node, at int, path []string) int {
	m, ok := r.anchors.resolve(n).(*ast.MappingNode)
	if !ok || len(path) == 0 {
		return at
	}
	entries, _ := r.mapping(m, "options")
	for _, e := range entries {
		if e.key == path[0] {
			return r.lineOf(e.value, e.line, path[1:])
		}
	}
	return at
}

// value returns what a node means, as JSON has it.
func (r *fileReader) value(n ast.Node) (any, bool) {
	switch v := r.anchors.resolve(n).(type) {
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
			one, ok := r.value(item)
			if !ok {
				return nil, false
			}
			list = append(list, one)
		}
		return list, true
	case *ast.MappingNode:
		entries, ok := r.mapping(v, "a mapping")
		object := make(map[string]any, len(entries))
		for _, e := range entries {
			one, itemOK := r.value(e.value)
			object[e.key], ok = one, ok && itemOK
		}
		return object, ok
	}
	return r.scalar(n, "a value")
}
