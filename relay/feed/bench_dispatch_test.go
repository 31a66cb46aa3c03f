package feed

import (
	"fmt"
	"testing"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
)

// addLive adds a queue that wants the pattern.
func (a *audience) addLive(b *testing.B, share *queue.Budget, pattern string) *queue.Queue {
	match, err := topic.NewMatcher([]string{pattern})
	if err != nil {
		b.Fatal(err)
	}
	q := queue.New(match, share, func() {}, &a.ended)
	a.arriving = append(a.arriving, q)
	a.admit(snapshot.Closed{})
	return q
}

// One message: that many subscriptions want it of those that are live.
func BenchmarkDispatchTo(b *testing.B) {
	for _, c := range []struct{ live, wanting int }{{1, 1}, {10, 10}, {1000, 1}, {1000, 1000}} {
		b.Run(fmt.Sprintf("%dof%d", c.wanting, c.live), func(b *testing.B) {
			out, share, w := audience{routes: make(map[string][]*queue.Queue)}, &queue.Budget{Limit: 1 << 30}, &snapshot.Window{N: 1}
			var queues []*queue.Queue
			for i := range c.live {
				pattern := fmt.Sprintf("other.t%d", i)
				if i < c.wanting {
					pattern = "bench.t1"
				}
				queues = append(queues, out.addLive(b, share, pattern))
			}
			r := &message.Row{XID: 11}
			r.Topic = "bench.t1"
			rows := []*message.Row{r}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				out.dispatch(rows, w)
				if n++; n%64 == 0 {
					for _, q := range queues[:c.wanting] {
						q.Take(64)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.wanting), "ns/delivery")
		})
	}
}

// A message of a topic that was not seen since subscriptions last came or went, among a thousand of them.
func BenchmarkRouteUnknownTopic(b *testing.B) {
	out, share := audience{routes: make(map[string][]*queue.Queue)}, &queue.Budget{Limit: 1 << 30}
	for i := range 1000 {
		out.addLive(b, share, fmt.Sprintf("orders.n%d.>", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		clear(out.routes)
		if len(out.route("orders.n500.created")) != 1 {
			b.Fatal("not one subscription matches")
		}
	}
}
