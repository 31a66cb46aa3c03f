package subscription

import (
	"slices"
	"testing"
)

func TestPartsAreOrderedAsTheirRowsAreLocked(t *testing.T) {
	want := []Part{{"a", 0, 0}, {"a", 0, 1}, {"a", 1, 0}, {"b", 0, 0}}
	got := []Part{want[3], want[2], want[1], want[0]}
	slices.SortFunc(got, Part.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if a, b := Whole("a").String(), (Part{"a", 1, 2}).String(); a != "a" || b != "a (shard 1, class 2)" {
		t.Errorf("parts are called %q and %q", a, b)
	}
}
