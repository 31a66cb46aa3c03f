package fifo

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFIFO(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[*int]
		var want []*int
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			for range rapid.IntRange(0, 9).Draw(t, "pushed") {
				x := new(int)
				q.Push(x)
				want = append(want, x)
			}
			n := rapid.IntRange(0, len(want)).Draw(t, "dropped")
			q.Drop(n)
			want = want[n:]
			if q.Len() != len(want) || !slices.Equal(q.All(), want) {
				t.Fatalf("%d items, want %d, in their order", q.Len(), len(want))
			}
			for i, x := range q.items[:cap(q.items)] {
				if x != nil && (i < q.head || i >= len(q.items)) {
					t.Fatal("something that was dropped is still referred to")
				}
			}
		}
	})
}

func TestFIFOForgetsLargeArrays(t *testing.T) {
	var q Queue[int]
	for range 4 * keepItems {
		q.Push(1)
		q.Drop(1)
	}
	if n := cap(q.items); n > 4 {
		t.Errorf("an array of %d items for one at a time", n)
	}
	for range 4 * keepItems {
		q.Push(1)
	}
	if q.Drop(q.Len()); cap(q.items) > keepItems {
		t.Errorf("empty, it keeps an array of %d items", cap(q.items))
	}
}
