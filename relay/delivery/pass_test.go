package delivery

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// Topics are tested here after a page most of which was wanted, and by the database after one of which little was; one without rows says nothing.
func TestPassFollowsWhatWasWanted(t *testing.T) {
	p := &passReader{Passes: &Passes{Limit: 1 << 20}, nextPage: nextPage{size: newPageSize(), heads: true}}
	rows := []*message.Row{{}, {}}
	rows[1].ID = 7
	for n, c := range []struct {
		got   store.Page
		sieve bool
		start int64
	}{
		{store.Page{Dense: true, Rows: rows}, true, 7},
		{store.Page{End: 9}, true, 9},
		{store.Page{Rows: rows, End: 12}, false, 12},
	} {
		c.got.Target = snapshot.Snapshot{Xmax: uint64(10 + n)}
		next := p.follow(c.got, time.Millisecond)
		if p.sieve != c.sieve || p.heads || !next.Begun || next.Start != c.start || next.Target.Xmax != c.got.Target.Xmax || p.target.Xmax != c.got.Target.Xmax {
			t.Errorf("after page %d: topics are tested here: %t, want %t; without what rows carry: %t; next %+v, want after %d", n, p.sieve, c.sieve, p.heads, next, c.start)
		}
	}
}
