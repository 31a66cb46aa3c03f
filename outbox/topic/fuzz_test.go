package topic

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// The rules once more, as regular expressions.
var (
	topicShape   = regexp.MustCompile(`^[!-)+-\-/-=?-~]+(\.[!-)+-\-/-=?-~]+)*$`)
	patternShape = regexp.MustCompile(`^((\*|[!-)+-\-/-=?-~]+)\.)*(>|\*|[!-)+-\-/-=?-~]+)$`)
)

func fits(shape *regexp.Regexp, s string) bool {
	own := shape == patternShape && strings.HasPrefix(s, "$postrider.")
	return len(s) <= MaxLen && (own || !strings.HasPrefix(s, "$")) && shape.MatchString(s)
}

// FuzzRules: what is a topic and what is a pattern, and that errors can be shown.
func FuzzRules(f *testing.F) {
	c := readCases(f)
	for _, x := range c.Topics {
		f.Add(x.Topic)
	}
	for _, x := range c.Patterns {
		f.Add(x.Pattern)
	}
	f.Add(strings.Repeat("é.", 90))
	f.Fuzz(func(t *testing.T, s string) {
		checkRule(t, s, Validate(s), fits(topicShape, s))
		err := ValidatePattern(s)
		checkRule(t, s, err, fits(patternShape, s))
		if _, asList := NewMatcher([]string{"a", s}); (asList == nil) != (err == nil) {
			t.Errorf("%q alone: %v; in a list: %v", s, err, asList)
		}
	})
}

func checkRule(t *testing.T, s string, err error, want bool) {
	t.Helper()
	if (err == nil) != want {
		t.Fatalf("%q: %v, want valid = %t", s, err, want)
	}
	if err != nil && (!utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\n\r\x00")) {
		t.Errorf("%q: the error is no line of text: %q", s, err)
	}
}

// FuzzMatcher: any list of patterns, one a line, on any text, topic or not.
func FuzzMatcher(f *testing.F) {
	for _, c := range readCases(f).Matches {
		f.Add(strings.Join(c.Patterns, "\n"), c.Topic)
	}
	f.Add("a.*.>\n*.b", "a..b")
	f.Fuzz(func(t *testing.T, list, topic string) {
		patterns := strings.Split(list, "\n")
		m, err := NewMatcher(patterns)
		if err != nil {
			return
		}
		got := m.Match(topic)
		if want := goRegexp(patterns).MatchString(topic); got != want && utf8.ValidString(topic) {
			t.Fatalf("%q matches %q: %t, the regular expression says %t", patterns, topic, got, want)
		}
		any := false
		for _, p := range patterns {
			one, err := NewMatcher([]string{p})
			if err != nil {
				t.Fatal(err)
			}
			any = any || one.Match(topic)
			if !strings.ContainsAny(p, "*>") && one.Match(topic) != (p == topic) {
				t.Fatalf("%q matches %q", p, topic)
			}
		}
		if got != any {
			t.Fatalf("%q matches %q: %t together, %t one by one", patterns, topic, got, any)
		}
	})
}
