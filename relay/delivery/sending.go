package delivery

import (
	"strings"

	"github.com/postrider/postrider/sinks"
)

// sending are the lanes to a sinks.Sender, whose deliveries end one by one: there is one for each key that something waits or is out of, and one
// for each message without a key. A lane has no goroutine, and is used again when it is empty. So a slow delivery delays its key alone.
type sending struct {
	to    sinks.Sender     // nil: the sink takes batches
	byKey map[string]*lane // those of keys
	ready []*lane          // with something that waits; some may be busy or empty by now
	spare []*lane          // to be used again
}

// senderOf returns the sink as a sender if it is to be fed as one. With one delivery at a time there is nothing to gain.
func (e *Environment) senderOf() sinks.Sender {
	if s, ok := e.Sink.(sinks.Sender); ok && !e.order().strict() {
		return s
	}
	return nil
}

// laneFor returns the lane in which a task waits, making one if there is none yet.
func (r *Runner) laneFor(t *task) *lane {
	ls := &r.Lanes
	if ls.sending.to == nil {
		return ls.laneOf(t.key)
	}
	l := ls.sending.byKey[t.key]
	if l != nil {
		return l
	}
	if n := len(ls.sending.spare); n > 0 {
		l, ls.sending.spare = ls.sending.spare[n-1], ls.sending.spare[:n-1]
	} else {
		l = &lane{batchMax: 1}
		l.ended = func(outcome error) {
			l.outcomes[0] = outcome
			r.finish(l)
		}
		ls.all = append(ls.all, l)
	}
	if t.key != "" {
		l.key = strings.Clone(t.key) // which would keep the whole message
		ls.sending.byKey[l.key] = l
	}
	return l
}

// makeReady has the lane looked at when something can be sent.
func (ls *lanes) makeReady(l *lane) {
	if !l.ready && !l.busy {
		l.ready = true
		ls.sending.ready = append(ls.sending.ready, l)
	}
}

// rest puts a lane of a sender, from which nothing is out any more, where its next task, or that of another key, finds it.
func (ls *lanes) rest(l *lane) {
	switch {
	case len(l.queue) > 0:
		ls.makeReady(l)
	case !l.ready:
		ls.retire(l)
	}
}

func (ls *lanes) retire(l *lane) {
	if l.key != "" {
		delete(ls.sending.byKey, l.key)
		l.key = ""
	}
	ls.sending.spare = append(ls.sending.spare, l)
}

// idle returns lanes among which are all that could deliver something now, in the order in which it is their turn.
func (ls *lanes) idle() []*lane {
	if ls.sending.to != nil {
		return ls.sending.ready
	}
	return ls.all
}

// hasRoom says whether one more delivery may be out.
func (ls *lanes) hasRoom() bool { return ls.inFlight < ls.most }

// sendReady sends from the lanes that are ready, as far as there is room.
func (r *Runner) sendReady() {
	ls := &r.Lanes
	if len(ls.sending.ready) == 0 || !ls.hasRoom() || !r.allotReady() {
		return
	}
	kept := ls.sending.ready[:0]
	for i, l := range ls.sending.ready {
		if !ls.hasRoom() {
			kept = append(kept, ls.sending.ready[i:]...)
			break
		}
		if l.busy { // with a probe
			l.ready = false
			continue
		}
		r.form(l, 1)
		if len(l.batch) > 0 {
			l.ready = false
			l.send(r)
			continue
		}
		if len(l.queue) > 0 { // nothing in it may go yet
			kept = append(kept, l)
			continue
		}
		l.ready = false
		ls.retire(l)
	}
	clear(ls.sending.ready[len(kept):])
	ls.sending.ready = kept
}

// sendOne gives a lane's delivery to its sender.
func (r *Runner) sendOne(l *lane) {
	if l.batch[0].row.Withheld {
		r.Life.done.Go(func() { r.sendWithheld(l) })
		return
	}
	r.Lanes.sending.to.Send(r.Life.deliver, l.deliveries[0], l.ended)
}

// sendWithheld reads the lane's message before it is sent; it has its place on the shelf until its delivery ends.
func (r *Runner) sendWithheld(l *lane) {
	b, err := r.readWithheld(l.batch[0], l.doubted)
	if err != nil {
		l.ended(err)
		return
	}
	d := l.deliveries[0]
	d.Message = &b.row.Message
	r.Lanes.sending.to.Send(r.Life.deliver, d, func(outcome error) {
		r.Env.Passes.Shelf.put(b)
		l.ended(outcome)
	})
}
