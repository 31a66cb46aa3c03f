package delivery

import (
	"slices"
	"time"
)

// servedEvery is how long a class that has something waits at most, in one place, until it gets a turn: one task, whatever waits of classes
// before it.
const servedEvery = time.Minute

// waiting are tasks in the order in which it is their turn: by class, and in each class first in, first out.
type waiting struct {
	byClass [][]*task
	n       int
	unfed   []time.Time // by class, since when it has something and nothing of it was taken; zero: not known, or nothing waits
}

func (w *waiting) class(turn int) *[]*task {
	for len(w.byClass) <= turn {
		w.byClass = append(w.byClass, nil)
	}
	return &w.byClass[turn]
}

// classOf is where the task waits, or shall wait.
func (w *waiting) classOf(t *task) *[]*task { return w.class(t.turn()) }

func (w *waiting) add(t *task) {
	q := w.classOf(t)
	*q = append(*q, t)
	w.n++
}

// addFirst puts tasks before all others of their classes.
func (w *waiting) addFirst(tasks []*task) {
	for i := len(tasks) - 1; i >= 0; i-- {
		q := w.classOf(tasks[i])
		*q = slices.Insert(*q, 0, tasks[i])
	}
	w.n += len(tasks)
}

// promote puts the last of its class before all others of that.
func (w *waiting) promote(t *task) {
	if t.turn() >= len(w.byClass) {
		return
	}
	if q := w.byClass[t.turn()]; len(q) > 0 && q[len(q)-1] == t {
		copy(q[1:], q[:len(q)-1])
		q[0] = t
	}
}

func (w *waiting) remove(t *task) {
	q := w.classOf(t)
	if i := slices.Index(*q, t); i >= 0 {
		*q = append((*q)[:i:i], (*q)[i+1:]...)
		w.n--
	}
}

// keep leaves of a class what is kept, which is the front of its own array.
func (w *waiting) keep(turn int, kept []*task) {
	q := &w.byClass[turn]
	w.n -= len(*q) - len(kept)
	clear((*q)[len(kept):])
	*q = kept
}

// all yields what waits.
func (w *waiting) all(yield func(*task) bool) {
	for _, q := range w.byClass {
		for _, t := range q {
			if !yield(t) {
				return
			}
		}
	}
}

// first is the place of the first class that has something; -1: nothing waits.
func (w *waiting) first() int {
	return slices.IndexFunc(w.byClass, func(q []*task) bool { return len(q) > 0 })
}

// overdue returns the class that has waited for too long, -1 if there is none. The first that has something, here or elsewhere, has its turn
// anyway.
func (w *waiting) overdue(first int, now time.Time) int {
	if len(w.byClass) < 2 {
		return -1
	}
	for len(w.unfed) < len(w.byClass) {
		w.unfed = append(w.unfed, time.Time{})
	}
	found := -1
	for turn, q := range w.byClass {
		switch since := w.unfed[turn]; {
		case len(q) == 0:
			w.unfed[turn] = time.Time{}
		case since.IsZero():
			w.unfed[turn] = now
		case turn > first && now.Sub(since) >= servedEvery && (found < 0 || since.Before(w.unfed[found])):
			found = turn
		}
	}
	return found
}

// fed takes note that something of a class was taken.
func (w *waiting) fed(turn int, now time.Time) {
	if turn < len(w.unfed) {
		w.unfed[turn] = now
	}
}
