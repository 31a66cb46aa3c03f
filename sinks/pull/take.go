package pull

// Want is how many jobs of a subscription a worker asks for.
type Want struct {
	Subscription string
	Max          int
}

// call is a take that waits for jobs.
type call struct {
	by    *worker
	wants []want
	jobs  []handout
	ready chan struct{} // closed when it was woken, or dismissed
}

// handout is a job as it was handed out. It may be somebody else's by now.
type handout struct {
	*job
	token int64
}

// want is a call's place in one line.
type want struct {
	line *line
	left int
	spot spot[call]
}

// take hands out what there is, in the order of wants.
func (c *core) take(w *worker, wants []Want) (jobs []*job) {
	for _, want := range wants {
		l := c.lines[want.Subscription]
		if l != nil {
			l.asked = c.now
		}
		for n := 0; l != nil && n < want.Max; n++ {
			j := c.next(w, l, len(jobs) == 0)
			if j == nil {
				break
			}
			c.hand(j, w)
			if jobs = append(jobs, j); j.Load != nil {
				return jobs
			}
		}
	}
	return jobs
}

// next returns the job of the line that the worker may have now. A doubtful job goes to a worker that has none, alone in its answer, as
// does one that is large, which takes memory until it has been answered with.
func (c *core) next(w *worker, l *line, first bool) *job {
	if w.doubtful != nil || !l.open {
		return nil
	}
	j := l.first(first)
	if j != nil && j.Load != nil && !first {
		return nil
	}
	return j
}

// hand hands the job out.
func (c *core) hand(j *job, w *worker) {
	j.spot.leave()
	if j.token != 0 {
		delete(c.byToken, j.token)
		c.remember(j.token, Late)
	}
	j.token = c.newToken()
	c.byToken[j.token] = j
	c.give(j, w)
	j.handed = handing{at: c.now, deadline: c.now.Add(j.line.setup.AttemptTimeout)}
	w.took = c.now
	c.checks.schedule(j)
}

// give makes the worker have the job.
func (c *core) give(j *job, w *worker) {
	j.with = w
	w.holds[j] = true
	j.line.out++
	if j.doubtful {
		w.doubtful = j
	}
}

// await makes a call wait for jobs.
func (c *core) await(w *worker, wants []Want) *call {
	x := &call{by: w, ready: make(chan struct{}), wants: make([]want, len(wants))}
	w.calls[x] = true
	for i, want := range wants {
		at := &x.wants[i]
		at.line, at.left, at.spot.of = c.line(want.Subscription), want.Max, x
		at.line.calls.pushBack(&at.spot)
	}
	return x
}

// serve gives calls that wait what the line has for them: each job wakes one that sleeps, if there is one.
func (c *core) serve(l *line) {
	if !l.open || l.leaving || !c.confirmed() {
		return
	}
	for c.serveOne(l) {
	}
}

func (c *core) serveOne(l *line) bool {
	for _, sleeping := range []bool{true, false} {
		from := &l.woken
		if sleeping {
			from = &l.calls
		}
		for s := from.first; s != nil; s = s.next {
			x := s.of
			j := c.next(x.by, l, len(x.jobs) == 0)
			if j == nil {
				if l.first(true) == nil {
					return false
				}
				continue
			}
			c.hand(j, x.by)
			x.jobs = append(x.jobs, handout{j, j.token})
			c.wake(x, l)
			return true
		}
	}
	return false
}

// wake lets a call look at what it has, and until it does take along more.
func (c *core) wake(x *call, l *line) {
	if len(x.jobs) == 1 {
		close(x.ready)
	}
	for i := range x.wants {
		w := &x.wants[i]
		if w.line == l {
			w.left--
		}
		switch {
		case w.left <= 0 || x.by.doubtful != nil || x.jobs[0].Load != nil:
			w.spot.leave()
		case w.spot.in == &w.line.calls:
			w.spot.leave()
			w.line.woken.pushBack(&w.spot)
		}
	}
}

// collect ends a call and returns what was given to it.
func (c *core) collect(x *call) (held []*job) {
	c.leave(x)
	for _, h := range x.jobs {
		if h.job.token == h.token && h.with == x.by { // else it was given up meanwhile
			held = append(held, h.job)
		}
	}
	return held
}

// leave takes the call out of all lines.
func (c *core) leave(x *call) {
	delete(x.by.calls, x)
	for i := range x.wants {
		x.wants[i].spot.leave()
		c.tidy(x.wants[i].line)
	}
}

// dismiss ends a call that waits without jobs.
func (c *core) dismiss(x *call) {
	c.leave(x)
	if len(x.jobs) == 0 {
		close(x.ready)
	}
}

// settleDown serves whoever may get something after a change.
func (c *core) settleDown() {
	for len(c.stirred)+len(c.freed) > 0 {
		lines, workers := c.stirred, c.freed
		c.stirred, c.freed = nil, nil
		for _, l := range lines {
			c.serve(l)
		}
		for _, w := range workers {
			for x := range w.calls {
				for i := range x.wants {
					c.serve(x.wants[i].line)
				}
			}
		}
	}
}
