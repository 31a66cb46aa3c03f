package delivery

import "time"

// scanAhead bounds how far beyond a batch's size a lane looks for keys that the batch does not have yet.
const scanAhead = 4

// formKeys is a set of keys, empty between its uses.
func (ls *lanes) formKeys() map[string]bool {
	if ls.keys == nil {
		ls.keys = make(map[string]bool)
	}
	return ls.keys
}

// form fills the lane's batch with at most most tasks, at most one per key, from the lowest class that has something on. What is still to be
// read goes alone. A class that has waited for too long has one task first.
func (r *Runner) form(l *lane, most int, now time.Time) {
	l.batch = l.batch[:0]
	defer clear(r.lanes.formKeys())
	if r.formOverdue(l, now); len(l.batch) > 0 && alone(l.batch[0]) {
		most = 1
	}
	for turn := 0; turn < max(len(l.queue.byClass), len(r.lanes.free.byClass)); turn++ {
		most = r.formClass(l, &l.queue, turn, most)
		most = r.formClass(l, &r.lanes.free, turn, most)
	}
	for _, t := range l.batch {
		l.queue.fed(t.turn(), now)
		r.lanes.free.fed(t.turn(), now)
	}
}

// formOverdue begins the batch with a task of a class that has waited for too long, if there is one.
func (r *Runner) formOverdue(l *lane, now time.Time) {
	first := l.queue.first()
	if f := r.lanes.free.first(); first < 0 || f >= 0 && f < first {
		first = f
	}
	for _, w := range []*waiting{&l.queue, &r.lanes.free} {
		if turn := w.overdue(first, now); turn >= 0 && len(l.batch) == 0 {
			r.formClass(l, w, turn, 1)
		}
	}
}

// formClass adds tasks of one class to the batch, and returns the bound on the batch that they leave.
func (r *Runner) formClass(l *lane, w *waiting, turn, most int) int {
	switch {
	case turn >= len(w.byClass) || len(w.byClass[turn]) == 0 || len(l.batch) >= most:
		return most
	case w == &l.queue:
		return r.formKeyed(l, turn, most)
	}
	return r.formFree(l, turn, most)
}

func (r *Runner) formFree(l *lane, turn, most int) int {
	strict := r.Env.order().strict()
	free := r.lanes.free.byClass[turn]
	kept := free[:0] // few enough to be moved
	for i, t := range free {
		if len(l.batch) >= most || r.strictWait(t) || strict && (r.breaker.restrained(t) || !r.limits.lets(t)) {
			kept = append(kept, free[i:]...)
			break
		}
		if r.breaker.restrained(t) || !r.takes(l, t, &most) {
			kept = append(kept, t)
		}
	}
	r.lanes.free.keep(turn, kept)
	return most
}

// alone says whether nothing else may be in the task's batch.
func alone(t *task) bool { return t.alone || t.row.Withheld }

// takes adds the task to the lane's batch, unless it must go alone and would not; most is lowered when it does.
func (r *Runner) takes(l *lane, t *task, most *int) bool {
	if alone(t) && (len(l.batch) > 0 || r.tooLarge(t)) || !r.limits.begin(t) {
		return false
	}
	if alone(t) {
		*most = 1
	}
	l.batch = append(l.batch, t)
	return true
}

// tooLarge says whether the task cannot go yet because another one that is to be read is under way to a destination that is in doubt: it
// would take memory that others have a use for.
func (r *Runner) tooLarge(t *task) bool {
	return t.row.Withheld && r.lanes.alone > 0 && r.inDoubt() && !r.lanes.sending.late
}

// inDoubt says whether the destination does not work, or has not shown yet that it does.
func (r *Runner) inDoubt() bool { return r.breaker.open || r.breaker.evidence.throughAt == 0 }

// logFirst says whether a strict subscription's next message is from the log, not this parked one.
func (r *Runner) logFirst(t *task) bool {
	if !r.Env.order().strict() || r.lanes.free.n == 0 {
		return false
	}
	first := r.lanes.free.byClass[0][0] // there is one class alone
	return first.row.ID < t.row.ID && !r.strictWait(first)
}

// farEnough says whether a lane has looked at enough. Suspects, and what limits keep back, may stand before all others for long.
func (r *Runner) farEnough(l *lane, looked int) bool {
	return looked >= scanAhead*l.batchMax && r.breaker.evidence.suspects == 0 && r.limits.Limiter == nil
}

// formKeyed returns the bound on the batch that its tasks leave.
func (r *Runner) formKeyed(l *lane, turn, most int) int {
	keys, queue := r.lanes.keys, l.queue.byClass[turn]
	kept, stuck := queue[:0], 0
	for i, t := range queue {
		if len(l.batch) >= most || r.farEnough(l, i-stuck) {
			kept = append(kept, queue[i:]...)
			break
		}
		if keys[t.key] {
			kept = append(kept, t)
			continue
		}
		switch r.retries.gate(t) {
		case gateOpen:
			keys[t.key] = true
			if r.logFirst(t) || r.breaker.restrained(t) || !r.takes(l, t, &most) {
				kept = append(kept, t)
			}
		case gateWait:
			keys[t.key] = true
			kept = append(kept, t)
		case gateHold:
			if !r.holds(t) {
				stuck++ // whom it waits for may stand behind it
				kept = append(kept, t)
				continue
			}
			r.free(t)
			r.hold(t)
		}
	}
	l.queue.keep(turn, kept)
	return most
}
