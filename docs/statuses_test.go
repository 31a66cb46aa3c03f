package docs

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/postrider/postrider/relay/states"
)

// concepts.md has a row for each status that a delivery can have, and no other.
func TestStatusesOnThePage(t *testing.T) {
	page, err := os.ReadFile("concepts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := regexpCut(page, `<!-- statuses: .*-->`)
	if !found {
		t.Fatal("concepts.md has no table of statuses")
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllSubmatch(table, -1) {
		got = append(got, string(m[1]))
	}
	want := append(states.Statuses(), "pending", "delivered")
	slices.Sort(got)
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("concepts.md has the statuses %v; there are %v", got, want)
	}
}

// regexpCut is bytes.Cut at the first match of a pattern.
func regexpCut(text []byte, pattern string) (before, after []byte, found bool) {
	at := regexp.MustCompile(pattern).FindIndex(text)
	if at == nil {
		return text, nil, false
	}
	return text[:at[0]], text[at[1]:], true
}
