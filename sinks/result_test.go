package sinks

import (
	"strings"
	"testing"
)

func TestCheckResult(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for text, want := range map[string]string{
		`{"a": [1, "\"[[["]}`: "", "null": "", deep(100): "", `["` + strings.Repeat("[{", 200) + `\\"]`: "",
		deep(101): "is nested 101 deep: must be at most 100", strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101): "is nested 101 deep",
		"": "is not JSON", "{": "is not JSON", "1 2": "is not JSON", "\"\xff\"": "is not UTF-8",
		`"` + strings.Repeat("x", MaxResult-1) + `"`: "has 65537 bytes: must have at most 65536",
	} {
		err := CheckResult([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}
