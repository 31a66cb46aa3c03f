package migrations

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/outbox/topic"
)

// formerTopic and formerHeaders say the rules at length, as the domains did before they were made cheaper.
const (
	formerTopic   = `v ~ '^([!-#%-)+,/-=?-~-][!-)+,/-=?-~-]*|\$postrider\.[!-)+,/-=?-~-]+)(\.[!-)+,/-=?-~-]+)*$' AND length(v) <= 255`
	formerHeaders = `jsonb_typeof(v) = 'object' AND NOT jsonb_path_exists(v, 'strict $.* ? (@.type() != "string")')`
)

// domainAccepts makes a function of the session that says whether a value of the type may become one of the domain.
func domainAccepts(t *testing.T, conn *pgx.Conn, domain, of string) {
	t.Helper()
	exec(t, conn, `CREATE FUNCTION pg_temp.accepted(v `+of+`) RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN PERFORM v::`+domain+`; RETURN true; EXCEPTION WHEN check_violation THEN RETURN false; END $$`)
}

// randomTopic is often a topic, and otherwise nearly one.
func randomTopic(r *rand.Rand, strange []string) string {
	var b strings.Builder
	if r.IntN(4) == 0 {
		b.WriteString([]string{"$postrider.", "$postrider", "$postride.", "$", "$postrider..", "$Postrider.", "postrider.", "."}[r.IntN(8)])
	}
	for range r.IntN(12) {
		switch r.IntN(16) {
		case 0, 1, 2:
			b.WriteByte('.')
		case 3:
			b.WriteString(strange[r.IntN(len(strange))])
		case 4:
			b.WriteByte(byte('!' + r.IntN(94))) // any printable one
		default:
			b.WriteString([]string{"orders", "a", "x-1", "_", "$", "9", "Ab", "!", "~", `"`}[r.IntN(10)])
		}
	}
	if r.IntN(8) == 0 && b.Len() < 250 {
		b.WriteString(strings.Repeat("y", 253-b.Len()+r.IntN(6)))
	}
	return b.String()
}

// The domain accepts exactly what the longer rule does and package topic, whatever the database takes a text for.
func TestTopicRuleStaysTheSame(t *testing.T) {
	bytes := []string{"\x01", "\n", " ", "*", ">", "$", "\x7f", "\x80", "\xe4", "\xff", "\xc3\xa9"}
	for encoding, strange := range map[string][]string{
		"UTF8":      {"\x01", "\n", " ", "*", ">", "$", "\x7f", "\u0080", "é", "中", "😀", "\u2028"},
		"LATIN1":    bytes,
		"SQL_ASCII": bytes,
	} {
		t.Run(encoding, func(t *testing.T) {
			db := pgtest.Encoded(t, encoding)
			if _, err := Up(t.Context(), db.URL()); err != nil {
				t.Fatal(err)
			}
			conn := db.Conn(t)
			exec(t, conn, `SET client_encoding = 'SQL_ASCII'`)
			domainAccepts(t, conn, "postrider.topic", "text")
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 0))
			var texts [][]byte
			valid := map[string]bool{}
			for range 8000 {
				s := randomTopic(r, strange)
				texts = append(texts, []byte(s))
				valid[s] = topic.Validate(s) == nil
			}
			rows, err := conn.Query(t.Context(), `SELECT b, pg_temp.accepted(v) AS is, coalesce(`+formerTopic+`, true) AS was
				FROM unnest($1::bytea[]) b, convert_from(b, $2) v`, texts, encoding)
			if err != nil {
				t.Fatal(err)
			}
			accepted, own := 0, 0
			var b []byte
			var is, was bool
			if _, err := pgx.ForEachRow(rows, []any{&b, &is, &was}, func() error {
				mine := strings.HasPrefix(string(b), "$")
				if is != was || !mine && is != valid[string(b)] {
					t.Errorf("seed %d: topic %q is accepted: %t; by the longer rule: %t; by package topic: %t", seed, b, is, was, valid[string(b)])
				}
				if is {
					accepted++
				}
				if is && mine {
					own++
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if accepted < 800 || accepted > 7200 || own < 20 {
				t.Errorf("seed %d: %d of 8000 are accepted, %d of them Postrider's own: that tries nothing", seed, accepted, own)
			}
		})
	}
}

// randomJSON is often an object of texts, and otherwise nearly one.
func randomJSON(r *rand.Rand, depth int) string {
	scalar := func() string { return []string{`"x"`, `""`, `"string"`, `1`, `null`, `true`, `1e3`, `"é"`}[r.IntN(8)] }
	switch r.IntN(8) {
	case 0:
		return scalar()
	case 1:
		if depth > 0 {
			return "[" + randomJSON(r, depth-1) + "]"
		}
		return "[]"
	}
	var members []string
	for i := range r.IntN(5) {
		value := []string{`"x"`, `""`, `"object"`, `"null"`}[r.IntN(4)]
		if r.IntN(8) == 0 {
			value = scalar()
		}
		if r.IntN(12) == 0 && depth > 0 {
			value = randomJSON(r, depth-1)
		}
		members = append(members, fmt.Sprintf(`"%s%d": %s`, []string{"a", "type", "", "$", "é"}[r.IntN(5)], i, value))
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func TestHeadersRuleStaysTheSame(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	domainAccepts(t, conn, "postrider.headers", "jsonb")
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	texts := []string{`null`, `"x"`, `1`, `true`, `[]`, `{}`, `[{}]`, `[{"a": "x"}]`, `[["x"]]`, `{"a": ["x"]}`, `{"a": {"b": "x"}}`, `{"a": {}}`, `{"a": []}`, `["x"]`}
	for range 6000 {
		texts = append(texts, randomJSON(r, 2))
	}
	rows, err := conn.Query(t.Context(), `SELECT v::text, pg_temp.accepted(v) AS is, `+formerHeaders+` AS was FROM unnest($1::text[]) s, LATERAL (SELECT s::jsonb) j (v)`, texts)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	var text string
	var is, was bool
	if _, err := pgx.ForEachRow(rows, []any{&text, &is, &was}, func() error {
		if is != was {
			t.Errorf("seed %d: headers %s are accepted: %t; by the longer rule: %t", seed, text, is, was)
		}
		if is {
			accepted++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if accepted < 600 || accepted > 5400 {
		t.Errorf("seed %d: %d of 6000 are accepted: that tries nothing", seed, accepted)
	}
	if !one[bool](t, conn, `SELECT pg_temp.accepted(NULL)`) {
		t.Error("a message without headers is refused")
	}
}

// Every combination of what a row may have, at the edges of what is looked at closely: at the smallest limit, where all is, and at one where
// what is small is not.
func TestEveryRowIsJudged(t *testing.T) {
	admin, _ := limited(t)
	exec(t, admin, `CREATE FUNCTION pg_temp.judged(topic text, event boolean, payload jsonb, body bytea, key text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO postrider.outbox (topic, event, payload, body, key) VALUES (judged.topic, judged.event, judged.payload, judged.body, judged.key);
			RETURN '';
		EXCEPTION WHEN OTHERS THEN
			RETURN SQLSTATE || ' ' || SQLERRM;
		END $$`)
	for limit, columns := range map[int]string{
		65536: `unnest(ARRAY[NULL, '1', to_jsonb(repeat('x', 65000)), to_jsonb(repeat('x', 65023)), to_jsonb(repeat('x', 65535))]) p,
			unnest(ARRAY[NULL, '', convert_to(repeat('x', 65024), 'UTF8'), convert_to(repeat('x', 65537), 'UTF8')]) b,
			unnest(ARRAY[NULL, '', repeat('k', 512), repeat('k', 513), repeat('k', 65536)]) k`,
		1 << 20: `unnest(ARRAY[NULL, '1', to_jsonb(repeat('x', 90)), to_jsonb(repeat('x', 120))]) p,
			unnest(ARRAY[NULL, '', convert_to(repeat('x', 1048577), 'UTF8')]) b,
			unnest(ARRAY[NULL, repeat('k', 512), repeat('k', 513), repeat('k', 1048576)]) k`,
	} {
		exec(t, admin, `SELECT postrider.set_max_message($1)`, limit)
		judgeRows(t, admin, limit, columns)
	}
}

// judgeRows compares what becomes of rows with payloads p, bodies b and keys k with what the rules, written at length, make of them.
func judgeRows(t *testing.T, admin *pgx.Conn, limit int, columns string) {
	t.Helper()
	rows, err := admin.Query(t.Context(), `
		SELECT format('topic %s, event %s, %s of payload, %s of body, %s of key', t, coalesce(e::text, 'null'), octet_length(p::text), octet_length(b), octet_length(k)),
			pg_temp.judged(t, e, p, b, k),
			CASE WHEN t LIKE '$%' AND e IS NOT TRUE THEN 'topics that begin with $ are Postrider''s own'
				WHEN (p IS NULL) = (b IS NULL) THEN 'exactly_one_of_payload_and_body'
				WHEN coalesce(octet_length(p::text), 0) + coalesce(octet_length(b), 0) + coalesce(octet_length(k), 0) > $1 THEN '54000 the message has'
				ELSE '' END
		FROM unnest(ARRAY['a', '%', '#', '!a', '$postrider.a']) t, unnest(ARRAY[NULL, true, false]) e, `+columns, limit)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]int{}
	var row, got, want string
	if _, err := pgx.ForEachRow(rows, []any{&row, &got, &want}, func() error {
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("limit %d, %s: got %q, want %q", limit, row, got, want)
		}
		verdicts[want]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(verdicts) != 4 || verdicts[""] < 50 {
		t.Errorf("limit %d: the rows came to %v: that tries too little", limit, verdicts)
	}
}
