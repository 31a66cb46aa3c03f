package delivery

import (
	"context"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// sending are the lanes to a sinks.Sender, whose deliveries end one by one: there is one for each key that something waits or is out of, and one
// for each message without a key. A lane has no goroutine, and is used again when it is empty. So a slow delivery delays its key alone.
type sending struct {
	to    sinks.Sender     // nil: the sink takes batches
	late  bool             // it loads large messages when it needs them
	byKey map[string]*lane // those of keys
	ready [][]*lane        // with something that waits, by its first class; some may be busy, empty or in another list by now
	spare []*lane          // to be used again
	turns waiting          // whether some lane of each class is ready
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
	ls := &r.lanes
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
	turn := l.queue.first()
	if l.busy || turn < 0 || l.ready > 0 && l.ready <= turn+1 {
		return
	}
	for len(ls.sending.ready) <= turn {
		ls.sending.ready = append(ls.sending.ready, nil)
	}
	l.ready = turn + 1
	ls.sending.ready[turn] = append(ls.sending.ready[turn], l)
}

// rest puts a lane of a sender, from which nothing is out any more, where its next task, or that of another key, finds it.
func (ls *lanes) rest(l *lane) {
	switch {
	case l.queue.n > 0:
		ls.makeReady(l)
	case l.ready == 0:
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
	switch {
	case ls.sending.to == nil:
		return ls.all
	case len(ls.sending.ready) == 1:
		return ls.sending.ready[0]
	}
	var idle []*lane
	listed := make(map[*lane]bool) // a lane that has left a list and come back may be there twice
	for turn, ready := range ls.sending.ready {
		for _, l := range ready {
			if l.ready == turn+1 && !listed[l] {
				listed[l] = true
				idle = append(idle, l)
			}
		}
	}
	return idle
}

// hasRoom says whether one more delivery may be out.
func (ls *lanes) hasRoom() bool { return ls.inFlight < ls.most }

// sendReady sends from the lanes that are ready, as far as there is room: from those of the first class on, but first of one that has had no
// turn for too long.
func (r *Runner) sendReady(now time.Time) {
	ls := &r.lanes
	if !ls.hasRoom() || !r.allotReady() {
		return
	}
	if turn := ls.sending.overdue(now); turn >= 0 && ls.hasRoom() {
		r.sendReadyOf(turn, 1, now)
	}
	for turn := range ls.sending.ready {
		r.sendReadyOf(turn, len(ls.sending.ready[turn]), now)
	}
}

// sendReadyOf sends so many at most.
func (r *Runner) sendReadyOf(turn, most int, now time.Time) {
	ls := &r.lanes
	ready := ls.sending.ready[turn]
	kept := ready[:0]
	for i, l := range ready {
		if !ls.hasRoom() || most == 0 {
			kept = append(kept, ready[i:]...)
			break
		}
		switch {
		case l.ready != turn+1: // in another list
		case l.busy: // with a probe
			l.ready = 0
		case r.formOne(l, turn, now):
			most--
			l.ready = 0
			l.send(r, now)
		case l.queue.n > 0: // nothing in it may go yet
			kept = append(kept, l)
		default:
			l.ready = 0
			ls.retire(l)
		}
	}
	clear(ready[len(kept):])
	ls.sending.ready[turn] = kept
}

// formOne says whether something of the lane may go now.
func (r *Runner) formOne(l *lane, turn int, now time.Time) bool {
	r.form(l, 1, now)
	if len(l.batch) == 0 {
		return false
	}
	r.lanes.sending.fed(turn, now)
	return true
}

// overdue returns the class of whose lanes none has had a turn for too long, -1 if there is none.
func (s *sending) overdue(now time.Time) int {
	if len(s.ready) < 2 {
		return -1
	}
	s.turns.byClass = s.turns.byClass[:0]
	for _, ready := range s.ready {
		s.turns.byClass = append(s.turns.byClass, marks[:min(len(ready), 1)])
	}
	return s.turns.overdue(s.turns.first(), now)
}

func (s *sending) fed(turn int, now time.Time) { s.turns.fed(turn, now) }

// marks stands for what waits in a lane that is ready.
var marks = make([]*task, 1)

// sendOne gives a lane's delivery to its sender.
func (r *Runner) sendOne(l *lane) {
	if l.batch[0].row.Withheld {
		if !r.lanes.sending.late {
			r.Life.done.Go(func() { r.sendWithheld(l) })
			return
		}
		l.deliveries[0].Load = r.loaderOf(l.batch[0])
	} else {
		m, err := r.outgoing(l.batch[0].row)
		if err != nil {
			l.ended(err)
			return
		}
		l.deliveries[0].Message = m
	}
	r.lanes.sending.to.Send(r.Life.deliver, l.deliveries[0], l.ended)
}

// loaderOf is how a sink that wants it late loads the task's message. Somebody waits for it: there is no doubt about the destination.
func (r *Runner) loaderOf(t *task) func(context.Context) (*sinks.Message, func(), error) {
	w := r.withheldOf(t, false)
	return func(ctx context.Context) (*sinks.Message, func(), error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(r.Life.deliver, cancel)()
		b, err := r.readWanted(ctx, w)
		if err != nil {
			return nil, nil, err
		}
		m, err := r.outgoing(b.row)
		if err != nil {
			r.Env.Passes.Shelf.put(b)
			return nil, nil, err
		}
		return m, func() { r.Env.Passes.Shelf.put(b) }, nil
	}
}

// sendWithheld reads the lane's message before it is sent; it has its place on the shelf until its delivery ends.
func (r *Runner) sendWithheld(l *lane) {
	b, err := r.readWanted(r.Life.deliver, r.withheldOf(l.batch[0], l.doubted))
	if err != nil {
		l.ended(err)
		return
	}
	d := l.deliveries[0]
	if d.Message, err = r.outgoing(b.row); err != nil {
		r.Env.Passes.Shelf.put(b)
		l.ended(err)
		return
	}
	r.lanes.sending.to.Send(r.Life.deliver, d, func(outcome error) {
		r.Env.Passes.Shelf.put(b)
		l.ended(outcome)
	})
}
