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

// addUnkeyed adds a task to those without a key. What has a row goes before what has none, as that may have to wait for it, and behind what
// else has one: before that, the same few that fail again and again would keep the others waiting for ever.
func (w *waiting) addUnkeyed(t *task) {
	if t.entry == nil {
		w.add(t)
		return
	}
	q := w.classOf(t)
	*q = slices.Insert(*q, parkedFirst(*q), t)
	w.n++
}

// returnUnkeyed puts tasks without a key back, before all others like them.
func (w *waiting) returnUnkeyed(tasks []*task) {
	for _, t := range slices.Backward(tasks) {
		q, at := w.classOf(t), 0
		if t.entry == nil {
			at = parkedFirst(*q)
		}
		*q = slices.Insert(*q, at, t)
	}
	w.n += len(tasks)
}

// parkedFirst counts the tasks with a row, which stand before those without one.
func parkedFirst(q []*task) int {
	n := slices.IndexFunc(q, func(t *task) bool { return t.entry == nil })
	if n < 0 {
		return len(q)
	}
	return n
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
