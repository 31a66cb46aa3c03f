package topic

import (
	"errors"
	"strings"
)

// Matcher tells which topics a list of patterns selects. It never changes, so goroutines may share it.
type Matcher struct {
	all   bool                // a pattern is ">"
	exact map[string]struct{} // patterns without wildcards
	wild  []string
}

// NewMatcher returns the matcher of patterns. The error names the pattern that is not one; an empty list is an error.
func NewMatcher(patterns []string) (*Matcher, error) {
	if len(patterns) == 0 {
		return nil, errors.New("no topic patterns: give at least one, such as orders.> or, for every topic, >")
	}
	m := &Matcher{exact: make(map[string]struct{})}
	for _, p := range patterns {
		if err := ValidatePattern(p); err != nil {
			return nil, err
		}
		switch {
		case p == ">":
			m.all = true
		case strings.ContainsAny(p, "*>"):
			m.wild = append(m.wild, p)
		default:
			m.exact[p] = struct{}{}
		}
	}
	return m, nil
}

// Match reports whether one of the patterns matches topic. It does not allocate.
func (m *Matcher) Match(topic string) bool {
	if m.all && topic != "" && topic[0] != '$' {
		return true
	}
	if _, ok := m.exact[topic]; ok {
		return true
	}
	for _, p := range m.wild {
		if match(p, topic) {
			return true
		}
	}
	return false
}

// match walks a valid pattern and a topic together; a '*' in the pattern skips to the topic's next dot. What begins with '$' is matched by name.
func match(pattern, topic string) bool {
	if pattern[0] == '*' && topic != "" && topic[0] == '$' {
		return false
	}
	i := 0
	for j := range len(pattern) {
		switch c := pattern[j]; c {
		case '>':
			return i < len(topic)
		case '*':
			start := i
			for i < len(topic) && topic[i] != '.' {
				i++
			}
			if i == start {
				return false
			}
		default:
			if i == len(topic) || topic[i] != c {
				return false
			}
			i++
		}
	}
	return i == len(topic)
}
