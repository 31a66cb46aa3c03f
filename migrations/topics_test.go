package migrations

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/outbox/topic"
)

// acceptsTopic asks the table's CHECK constraint.
func acceptsTopic(t *testing.T, tx pgx.Tx, s string) bool {
	t.Helper()
	inner := begin(t, tx)
	_, err := inner.Exec(t.Context(), `INSERT INTO postrider.outbox (topic, payload) VALUES ($1, '1')`, s)
	if err := inner.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	return err == nil
}

func acceptsPattern(t *testing.T, q querier, s string) bool {
	t.Helper()
	return one[bool](t, q, `SELECT postrider.valid_patterns(ARRAY[$1::text])`, s)
}

// The list that the tests of package topic check in Go holds in SQL too.
func TestTopicCases(t *testing.T) {
	var cases struct {
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
	text, err := os.ReadFile("../outbox/topic/testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, pgtest.New(t).Conn(t))
	defer tx.Rollback(t.Context())
	for _, c := range cases.Topics {
		if acceptsTopic(t, tx, c.Topic) != c.Valid {
			t.Errorf("topic %q: the table does not agree that it is valid: %t", c.Topic, c.Valid)
		}
	}
	for _, c := range cases.Patterns {
		if acceptsPattern(t, tx, c.Pattern) != c.Valid {
			t.Errorf("pattern %q: valid_patterns does not agree that it is valid: %t", c.Pattern, c.Valid)
		}
	}
	for _, c := range cases.Matches {
		if got := one[bool](t, tx, `SELECT $1 ~ postrider.topic_regex($2)`, c.Topic, c.Patterns); got != c.Match {
			t.Errorf("topic_regex(%q) matches %q: %t, want %t", c.Patterns, c.Topic, got, c.Match)
		}
		if got := one[string](t, tx, `SELECT postrider.topic_regex($1)`, c.Patterns); got != topic.Regex(c.Patterns) {
			t.Errorf("topic_regex(%q) is %s, Regex is %s", c.Patterns, got, topic.Regex(c.Patterns))
		}
	}
}

// Each character alone, after and before others, in Go and in SQL.
func TestTopicCharacters(t *testing.T) {
	tx := begin(t, pgtest.New(t).Conn(t))
	defer tx.Rollback(t.Context())
	for c := rune(1); c <= 0x100; c++ {
		for _, s := range []string{string(c), "a" + string(c) + "b", "a." + string(c)} {
			if got, want := acceptsTopic(t, tx, s), topic.Validate(s) == nil; got != want {
				t.Errorf("topic %q: valid in SQL: %t, in Go: %t", s, got, want)
			}
			if got, want := acceptsPattern(t, tx, s), topic.ValidatePattern(s) == nil; got != want {
				t.Errorf("pattern %q: valid in SQL: %t, in Go: %t", s, got, want)
			}
			m, err := topic.NewMatcher([]string{s})
			if err != nil {
				continue
			}
			for _, other := range []string{s, "a", "aa", "a.a", "axb"} {
				if got, want := one[bool](t, tx, `SELECT $1 ~ postrider.topic_regex(ARRAY[$2::text])`, other, s), m.Match(other); got != want {
					t.Errorf("pattern %q matches %q: %t in SQL, %t in Go", s, other, got, want)
				}
			}
		}
	}
}

func TestPatternLists(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	for list, want := range map[string]bool{
		`'{a,b.*}'`: true, `'{}'`: false, `NULL`: false, `'{a,NULL}'`: false, `'{a,"b c"}'`: false, `'{{a},{b}}'`: false,
	} {
		if got := one[bool](t, conn, `SELECT postrider.valid_patterns(`+list+`)`); got != want {
			t.Errorf("valid_patterns(%s) is %t, want %t", list, got, want)
		}
	}
	if got := one[string](t, conn, `SELECT postrider.topic_regex('{}')`); got != topic.Regex(nil) {
		t.Errorf("topic_regex of nothing is %q, Regex is %q", got, topic.Regex(nil))
	}
	if one[bool](t, conn, `SELECT 'a' ~ postrider.topic_regex('{}')`) {
		t.Error("an empty list matches a topic")
	}
}
