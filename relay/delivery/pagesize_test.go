package delivery

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever limit cuts pages off, a pass gets through it: no page is asked for again as it was, the pages do not stay small for ever,
// and few are cut off.
func TestPagesGetThroughEveryLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const rows = 1_000_000
		every := rapid.IntRange(1, 1000).Draw(t, "one of so many rows matches")
		perRow := time.Duration(rapid.IntRange(100, 5000).Draw(t, "nanoseconds per row"))
		limit := time.Duration(rapid.IntRange(1, 200).Draw(t, "limit in ms")) * time.Millisecond
		size, now := newPageSize(), time.Unix(0, 0)
		var last pageSize
		failed, cut := false, 0
		for at := 0; at < rows; {
			scans := size.rows * every
			if size.scan > 0 {
				scans = min(scans, size.scan)
			}
			took := time.Duration(min(scans, rows-at)) * perRow
			if took > limit {
				if failed && size.rows >= last.rows && size.scan >= last.scan {
					t.Fatalf("asked for the same again: %+v after %+v", size, last)
				}
				failed, last = true, size
				cut++
				now = now.Add(limit)
				size.shrink(limit, now)
				continue
			}
			failed = false
			now = now.Add(took)
			at += scans
			size.grow(took, now, pageRows)
		}
		if most := 40 + int(now.Sub(time.Unix(0, 0))/cutForgets)*4; cut > most {
			t.Fatalf("%d pages were cut off in %s, more than %d", cut, now.Sub(time.Unix(0, 0)), most)
		}
	})
}
