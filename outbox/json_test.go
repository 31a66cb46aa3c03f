package outbox

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/internal/pgtest"
)

var jsonText = rapid.Custom(func(t *rapid.T) string {
	part := rapid.SampledFrom([]string{
		`"`, `"`, `a`, `\\`, `\"`, `\n`, `\u0000`, `\u0041`, `\ud83d`, `\ude00`, `\uDFFF`, `\ud800\udc00`, `ü`, "\xff", "\x00", "\x7f",
		`[`, `]`, `{`, `}`, `,`, `:`, `1`, `-0`, `0.5`, `1e3`, `2E-2`, `1e16000`, `1e-16000`, `1e15990`, `0e20000`, `1e-16383`, `1e-16384`, `1e131071`, `1e99999999999999999999`, ` `, `null`, `true`,
	})
	parts := rapid.SliceOfN(part, 0, 6).Draw(t, "parts")
	text := ""
	for _, p := range parts {
		text += p
	}
	switch rapid.IntRange(0, 3).Draw(t, "in") {
	case 0:
		return `"` + text + `"`
	case 1:
		return `{"k` + text + `": [1, "` + text + `"]}`
	case 2:
		return `[` + text + `]`
	}
	return text
})

// What checkJSON lets through, jsonb takes; what it refuses, jsonb refuses too, but for numbers near the end of the range.
func TestCheckJSONIsWhatJsonbTakes(t *testing.T) {
	conn := pgtest.Empty(t).Conn(t)
	rapid.Check(t, func(r *rapid.T) {
		text := jsonText.Draw(r, "text")
		ours := checkJSON([]byte(text))
		_, theirs := conn.Exec(t.Context(), `SELECT $1::text::jsonb`, pgx.QueryExecModeExec, text)
		if ours == nil && theirs != nil {
			r.Fatalf("%q passes, but %v", text, theirs)
		}
		if ours != nil && theirs == nil && !hasLargeNumber(text) {
			r.Fatalf("%q is refused: %v", text, ours)
		}
	})
}

func hasLargeNumber(text string) bool {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return false
	}
	large := false
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case json.Number:
			large = large || len(v) > 5
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return large
}
