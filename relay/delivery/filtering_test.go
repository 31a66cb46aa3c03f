package delivery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// A step judges as much as takes some milliseconds, and the rest in further ones, for which it need not be woken by others: who wants to save
// waits for no more.
func TestStepsOfAFilterEnd(t *testing.T) {
	costly := "[1, 2, 3, 4, 5, 6, 7, 8].all(i, [1, 2, 3, 4, 5, 6, 7, 8].all(j, [1, 2, 3, 4, 5, 6, 7, 8].all(k, payload.n != i + j + k)))"
	for name, c := range map[string]struct {
		filter string
		rows   int
		pad    int
		most   int // rows of a step
	}{
		"large payloads": {"payload.n < 0", 200, 40_000, 50}, "small ones": {"payload.n < 0", 3000, 100, 3000}, "much to do": {"!(" + costly + ")", 300, 10, 100},
	} {
		t.Run(name, func(t *testing.T) {
			wanted, err := expression.Filter(c.filter)
			if err != nil {
				t.Fatal(err)
			}
			f, share := benchFeed()
			r := benchRunner(t, f, share, subscription.OrderByKey, 1, 1)
			r.filtering.wanted, r.filtering.evaluates = wanted, true
			in := r.intakes[0]
			in.endQueue()
			in.pass.reader = &passReader{pages: make(chan store.Page, 1)}
			in.prog.StartPass(snapshot.Snapshot{Xmax: 100}, 0, true)
			var rows []*message.Row
			for i := range c.rows {
				row := &message.Row{XID: 99}
				row.ID, row.Topic, row.JSON, row.Payload = int64(i+1), "t", true, fmt.Appendf(nil, `{"n": 1000, "pad": %q}`, strings.Repeat("x", c.pad))
				rows = append(rows, row)
			}
			in.pass.reader.pages <- store.Page{Rows: rows}
			for left := c.rows; left > 0; {
				r.step(time.Now())
				now := len(in.pass.page.Rows)
				if left-now > c.most || left == now {
					t.Fatalf("a step judges %d of %d rows, at most %d may be", left-now, c.rows, c.most)
				}
				if left = now; left > 0 {
					select {
					case <-r.Life.wakeup:
					default:
						t.Fatal("nobody wakes it for the rest")
					}
				}
			}
			if in.prog.Done > 0 || r.lanes.tasks > 0 {
				t.Errorf("%d ids are settled beyond the rest, %d tasks wait", in.prog.Done, r.lanes.tasks)
			}
		})
	}
}
