package topic

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// cases is testdata/cases.json, which the tests of the migrations read too.
type cases struct {
	Topics []struct {
		Topic string
		Valid bool
	}
	Patterns []struct {
		Pattern string
		Valid   bool
	}
	Matches []struct {
		Patterns []string
		Topic    string
		Match    bool
	}
}

func readCases(t testing.TB) (c cases) {
	t.Helper()
	text, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Topics) == 0 || len(c.Patterns) == 0 || len(c.Matches) == 0 {
		t.Fatal("testdata/cases.json lacks a list")
	}
	return c
}

func TestValidate(t *testing.T) {
	for _, c := range readCases(t).Topics {
		if err := Validate(c.Topic); (err == nil) != c.Valid {
			t.Errorf("Validate(%q) = %v, want valid = %t", c.Topic, err, c.Valid)
		}
	}
}

func TestValidatePattern(t *testing.T) {
	for _, c := range readCases(t).Patterns {
		if err := ValidatePattern(c.Pattern); (err == nil) != c.Valid {
			t.Errorf("ValidatePattern(%q) = %v, want valid = %t", c.Pattern, err, c.Valid)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range readCases(t).Matches {
		m, err := NewMatcher(c.Patterns)
		if err != nil {
			t.Errorf("NewMatcher(%q): %v", c.Patterns, err)
			continue
		}
		if got := m.Match(c.Topic); got != c.Match {
			t.Errorf("%q matches %q: %t, want %t", c.Patterns, c.Topic, got, c.Match)
		}
		if got := goRegexp(c.Patterns).MatchString(c.Topic); got != c.Match {
			t.Errorf("Regex(%q) matches %q: %t, want %t", c.Patterns, c.Topic, got, c.Match)
		}
	}
}

// goRegexp compiles Regex for Go, where "." leaves out line feeds unless told otherwise.
func goRegexp(patterns []string) *regexp.Regexp { return regexp.MustCompile("(?s)" + Regex(patterns)) }

func TestErrorsNameTheThing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{Validate("orders created"), `topic "orders created" holds " " at byte 7: a topic is`},
		{Validate("a..b"), `topic "a..b" has an empty token at byte 3: `},
		{Validate("a."), `topic "a." has an empty token at byte 3: `},
		{Validate("$SYS"), `topic "$SYS" begins with '$': `},
		{Validate("a\xff"), `topic "a\xff" holds "\xff" at byte 2: `},
		{Validate(""), `topic is empty: `},
		{Validate(strings.Repeat("x", 300)), `topic "xxxxxxxxxxxxxxxxxxxx"… has 300 bytes: at most 255 are allowed`},
		{ValidatePattern("a.>.b"), `pattern "a.>.b" has '>' before its last token: a pattern is`},
		{ValidatePattern("a.b*"), `pattern "a.b*" holds "*" at byte 4: `},
		{ValidatePattern("$x"), `pattern "$x" begins with '$'`},
	} {
		if c.err == nil || !strings.HasPrefix(c.err.Error(), c.want) {
			t.Errorf("got error %v, want %s…", c.err, c.want)
		}
	}
	if _, err := NewMatcher(nil); err == nil {
		t.Error("NewMatcher(nil) returned no error")
	}
	if _, err := NewMatcher([]string{"a", "b c"}); err == nil || !strings.Contains(err.Error(), `"b c"`) {
		t.Errorf("NewMatcher does not name the bad pattern: %v", err)
	}
	if goRegexp(nil).MatchString("a") {
		t.Error("no patterns match a topic")
	}
}

// Texts over a small alphabet of what the rules treat differently, valid or not.
var text = rapid.StringOfN(rapid.SampledFrom([]rune("ab..$\\+[ \nü")), 0, 12, 24)

var pattern = rapid.Custom(func(t *rapid.T) string {
	token := rapid.OneOf(rapid.SampledFrom([]string{"*", "*", "a", "b"}), rapid.StringMatching(`[ab\\+\[(]{1,3}`))
	tokens := rapid.SliceOfN(token, 1, 4).Draw(t, "tokens")
	if rapid.Bool().Draw(t, "rest") {
		tokens[len(tokens)-1] = ">"
	}
	return strings.Join(tokens, ".")
})

// near returns a text that a pattern matches, or nearly: it may lack its end.
func near(t *rapid.T, pattern string) string {
	fill := rapid.SampledFrom([]string{"", "a", "b", "a.b", ".", "*"})
	s := strings.NewReplacer("*", fill.Draw(t, "star"), ">", fill.Draw(t, "rest")).Replace(pattern)
	return s[:len(s)-rapid.IntRange(0, min(2, len(s))).Draw(t, "cut")]
}

// On any text, topic or not, the matcher and the regular expression agree.
func TestMatcherIsTheRegex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		patterns := rapid.SliceOfN(pattern, 1, 4).Draw(t, "patterns")
		m, err := NewMatcher(patterns)
		if err != nil {
			t.Fatal(err)
		}
		topic := near(t, patterns[0])
		if rapid.Bool().Draw(t, "other") {
			topic = rapid.OneOf(text, pattern).Draw(t, "topic")
		}
		if got, want := m.Match(topic), goRegexp(patterns).MatchString(topic); got != want {
			t.Fatalf("%q matches %q: %t, the regular expression says %t", patterns, topic, got, want)
		}
	})
}

// Every topic is a pattern that matches itself, and every pattern without wildcards is a topic.
func TestTopicsArePatterns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(text, pattern).Draw(t, "text")
		plain := !strings.ContainsAny(s, "*>")
		if (Validate(s) == nil) != (plain && ValidatePattern(s) == nil) {
			t.Fatalf("%q: Validate says %v, ValidatePattern %v", s, Validate(s), ValidatePattern(s))
		}
	})
}

func FuzzMatch(f *testing.F) {
	for _, c := range readCases(f).Matches {
		f.Add(c.Patterns[0], c.Topic)
	}
	f.Fuzz(func(t *testing.T, p, topic string) {
		m, err := NewMatcher([]string{p})
		if err != nil || Validate(topic) != nil {
			return
		}
		if got, want := m.Match(topic), goRegexp([]string{p}).MatchString(topic); got != want {
			t.Fatalf("%q matches %q: %t, the regular expression says %t", p, topic, got, want)
		}
	})
}

func TestMatchDoesNotAllocate(t *testing.T) {
	m, err := NewMatcher([]string{"orders.created", "payments.*", "users.*.deleted.>"})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { m.Match("users.eu.deleted.now") }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	m, err := NewMatcher([]string{"orders.created", "orders.paid", "payments.*", "users.*.deleted.>"})
	if err != nil {
		b.Fatal(err)
	}
	for _, topic := range []string{"orders.paid", "users.eu-west-1.deleted.now", "shipments.left"} {
		b.Run(topic, func(b *testing.B) {
			for b.Loop() {
				m.Match(topic)
			}
		})
	}
}
