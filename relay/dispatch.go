package relay

import (
	"github.com/postrider/postrider/relay/message"

	"github.com/postrider/postrider/relay/internal/fifo"
)

// dispatchOpen hands rows out and remembers them for the audit.
func (f *feed) dispatchOpen(rows []*message.Row) {
	for _, r := range rows {
		f.open = append(f.open, opened{r.XID, r.Ident()})
	}
	f.dispatch(rows)
}

// dispatch hands rows out, to each queue all at once. One that refuses is pruned before the next tick.
func (f *feed) dispatch(rows []*message.Row) {
	for _, r := range rows {
		for _, q := range f.route(r.Topic) {
			if len(q.staged) == 0 {
				f.staged = append(f.staged, q)
			}
			q.staged = append(q.staged, r)
		}
	}
	for _, q := range f.staged {
		q.push(q.staged, f.win)
		clear(q.staged)
		q.staged = fifo.Emptied(q.staged)
	}
	clear(f.staged)
	f.staged = f.staged[:0]
}

func (f *feed) route(topic string) []*queue {
	if qs, ok := f.routes[topic]; ok {
		return qs
	}
	if len(f.routes) >= message.MaxTopics {
		clear(f.routes)
	}
	var qs []*queue
	for _, q := range f.live {
		if q.match.Match(topic) {
			qs = append(qs, q)
		}
	}
	f.routes[topic] = qs
	return qs
}

// prune forgets queues that have ended.
func (f *feed) prune() {
	if !f.ended.Swap(false) {
		return
	}
	kept := f.live[:0]
	for _, q := range f.live {
		if _, _, refused := q.state(); !refused {
			kept = append(kept, q)
		}
	}
	if len(kept) < len(f.live) {
		clear(f.live[len(kept):])
		clear(f.routes)
	}
	f.live = kept
}
