package feed

import (
	"sync/atomic"

	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/snapshot"
)

// audience is whom the feed serves.
type audience struct {
	live     []*queue.Queue            // get what is dispatched
	arriving []*queue.Queue            // were there before the tick under way: they get what comes after its snapshot
	routes   map[string][]*queue.Queue // the live ones that want a topic
	staged   []*queue.Queue            // the array of dispatch
	ended    atomic.Bool               // some live queue takes no more
}

func (a *audience) nobody() bool { return len(a.live) == 0 && len(a.arriving) == 0 }

// dispatch hands the window's rows out, to each queue all at once. One that refuses is pruned before the next tick.
func (a *audience) dispatch(rows []*message.Row, w *snapshot.Window) {
	for _, r := range rows {
		for _, q := range a.route(r.Topic) {
			if q.Class != 0 && q.Class != r.Priority {
				continue
			}
			if len(q.Staged) == 0 {
				a.staged = append(a.staged, q)
			}
			q.Staged = append(q.Staged, r)
		}
	}
	for _, q := range a.staged {
		q.Push(q.Staged, w)
		clear(q.Staged)
		q.Staged = fifo.Emptied(q.Staged)
	}
	clear(a.staged)
	a.staged = a.staged[:0]
}

func (a *audience) route(topic string) []*queue.Queue {
	if qs, ok := a.routes[topic]; ok {
		return qs
	}
	if len(a.routes) >= message.MaxTopics {
		clear(a.routes)
	}
	var qs []*queue.Queue
	for _, q := range a.live {
		if q.Match.Match(topic) {
			qs = append(qs, q)
		}
	}
	a.routes[topic] = qs
	return qs
}

// demote sends those who want one of the topics back to the table: the window is too large to hold.
func (a *audience) demote(topics []string, w *snapshot.Window) {
	for _, topic := range topics {
		for _, q := range a.route(topic) {
			q.Refuse(w)
		}
	}
}

// admit makes those who have arrived live, from the closed snapshot on.
func (a *audience) admit(at snapshot.Closed) {
	if len(a.arriving) == 0 {
		return
	}
	for _, q := range a.arriving {
		if _, _, refused := q.State(); !refused { // else its runner has stopped meanwhile
			a.live = append(a.live, q)
			q.Attach(at)
		}
	}
	clear(a.arriving)
	a.arriving = a.arriving[:0]
	clear(a.routes)
}

// prune forgets queues that have ended.
func (a *audience) prune() {
	if !a.ended.Swap(false) {
		return
	}
	kept := a.live[:0]
	for _, q := range a.live {
		if _, _, refused := q.State(); !refused {
			kept = append(kept, q)
		}
	}
	if len(kept) < len(a.live) {
		clear(a.live[len(kept):])
		clear(a.routes)
	}
	a.live = kept
}
