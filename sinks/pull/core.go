package pull

import (
	"context"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// core is the hub without its lock, its clock and its callers.
type core struct {
	lines   map[string]*line
	workers map[string]*worker
	byToken map[int64]*job // out, or given up and waiting again
	checks  checks         // what is out
	memory  memory
	watches map[<-chan struct{}]*watch
	now     time.Time // of this step
	swept   time.Time // when workers were last forgotten

	confirmed func() bool // whether this relay is certain that it owns its subscriptions
	newToken  func() int64
	lost      func(Lost)                 // told of workers that are gone with jobs
	ended     func(done <-chan struct{}) // told when deliveries with this context have to end

	stirred []*line   // may have something for calls that wait
	freed   []*worker // have nothing doubtful any more
}

func newCore() *core {
	return &core{lines: make(map[string]*line), workers: make(map[string]*worker), byToken: make(map[int64]*job), watches: make(map[<-chan struct{}]*watch)}
}

// watch is on a context that ends deliveries, which many share.
type watch struct {
	jobs map[*job]bool
	stop func() bool
}

// line returns a subscription's line, which it makes if there is none.
func (c *core) line(name string) *line {
	l := c.lines[name]
	if l == nil {
		l = &line{name: strings.Clone(name), jobs: make(map[*job]bool)}
		c.lines[l.name] = l
	}
	return l
}

func (c *core) tidy(l *line) {
	if l.idle() && c.lines[l.name] == l {
		delete(c.lines, l.name)
	}
}

// send takes a delivery in.
func (c *core) send(ctx context.Context, l *line, d sinks.Delivery, done func(outcome error)) {
	if _, err := d.HeaderMap(); err != nil {
		done(sinks.Permanent(err))
		return
	}
	if l.leaving {
		done(sinks.Released())
		return
	}
	j := &job{Delivery: d, line: l, done: done, heapIndex: -1}
	j.spot.of = j
	j.doubtful = l.marked[d.ID]
	delete(l.marked, d.ID)
	l.jobs[j] = true
	c.watch(ctx, j)
	l.place(j).pushBack(&j.spot)
	c.stirred = append(c.stirred, l)
}

// watch ends the job when ctx does. One function serves all deliveries of a context.
func (c *core) watch(ctx context.Context, j *job) {
	done := ctx.Done()
	if done == nil {
		return
	}
	w := c.watches[done]
	if w == nil {
		w = &watch{jobs: make(map[*job]bool)}
		w.stop = context.AfterFunc(ctx, func() { c.ended(done) })
		c.watches[done] = w
	}
	w.jobs[j] = true
	j.watch = w
}

func (c *core) unwatch(j *job) {
	if j.watch != nil {
		delete(j.watch.jobs, j)
		j.watch = nil
	}
}

// drop ends all deliveries of a context.
func (c *core) drop(done <-chan struct{}) {
	w := c.watches[done]
	if w == nil {
		return
	}
	delete(c.watches, done)
	for j := range w.jobs {
		c.remember(j.token, Unknown)
		c.end(j, context.Canceled)
	}
}

// tidyWatches forgets contexts that no delivery has any more.
func (c *core) tidyWatches() {
	for done, w := range c.watches {
		if len(w.jobs) == 0 {
			w.stop()
			delete(c.watches, done)
		}
	}
}

// relinquish gives back what waits, and hands over what is out.
func (c *core) relinquish(l *line) {
	l.leaving = true
	for j := range l.jobs {
		if j.with == nil {
			c.end(j, sinks.Released())
			continue
		}
		c.leaseOut(j)
		c.renew(j, time.Millisecond) // the next owner knows of the deadline what the row says
		c.forget(j)
	}
	c.sendAway(l)
}

// sendAway ends the calls that wait for the line: they come again, to whoever has it then.
func (c *core) sendAway(l *line) {
	for l.calls.first != nil {
		c.dismiss(l.calls.first.of)
	}
}

// close ends what is left.
func (c *core) close(l *line) {
	for j := range l.jobs {
		if j.lease.out { // the row stays
			c.forget(j)
			continue
		}
		c.end(j, context.Canceled)
	}
	l.open, l.served, l.leaving = false, false, false
	c.sendAway(l)
	c.tidyWatches()
	c.tidy(l)
}

func (c *core) remember(token int64, a Answer) {
	if token != 0 && a != Unknown {
		c.memory.add(token, a, c.now)
	}
}
