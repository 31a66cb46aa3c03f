package pull

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// WorkerStatus is what is known of a worker.
type WorkerStatus struct {
	Worker      string     `json:"worker"`
	Incarnation string     `json:"incarnation"`
	Since       time.Time  `json:"since"`
	LastCall    time.Time  `json:"last_call"`
	LastJob     *time.Time `json:"last_job,omitempty"` // when it last got one
	Jobs        int        `json:"jobs"`
	Waits       bool       `json:"waits"` // for jobs, now
}

// LineStatus is what is known of a subscription's jobs.
type LineStatus struct {
	Subscription string     `json:"subscription"`
	Waiting      int        `json:"waiting"`
	Out          int        `json:"out"`
	Calls        int        `json:"calls"` // that wait for a job
	LastAsked    *time.Time `json:"last_asked,omitempty"`
	Trouble      string     `json:"trouble,omitempty"`
	// Takers is how many workers wait for its jobs or have some.
	Takers int `json:"-"`
	// LastTake is LastAsked; else when the subscription was opened here; now, while a call waits.
	LastTake time.Time `json:"-"`
}

// neglected is how long jobs wait that nobody asks for before that is worth a word.
const neglected = time.Minute

// Status returns what this process knows of its workers and their jobs, by name.
func (h *Hub) Status() (workers []WorkerStatus, lines []LineStatus) {
	h.do(func() {
		c := h.core
		live := 0
		for _, w := range c.workers {
			one := WorkerStatus{Worker: w.name, Incarnation: w.incarnation, Since: w.since, LastCall: w.seen, Jobs: len(w.holds), Waits: len(w.calls) > 0}
			if took := w.took; !took.IsZero() {
				one.LastJob = &took
			}
			if c.now.Sub(w.seen) < neglected {
				live++
			}
			workers = append(workers, one)
		}
		takers := c.takers()
		for _, l := range c.lines {
			if l.open {
				one := c.lineStatus(l, live)
				one.Takers = takers[l]
				lines = append(lines, one)
			}
		}
	})
	slices.SortFunc(workers, func(a, b WorkerStatus) int { return cmp.Compare(a.Worker, b.Worker) })
	slices.SortFunc(lines, func(a, b LineStatus) int { return cmp.Compare(a.Subscription, b.Subscription) })
	return workers, lines
}

// lineStatus says what keeps jobs waiting, if it is that nobody asks for them.
func (c *core) lineStatus(l *line, live int) LineStatus {
	one := LineStatus{Subscription: l.name, Waiting: len(l.jobs) - l.out, Out: l.out, Calls: l.calls.n, LastTake: l.since()}
	if l.calls.n > 0 {
		one.LastTake = c.now
	}
	if asked := l.asked; !asked.IsZero() {
		one.LastAsked = &asked
	}
	idle, is := c.neglected(l)
	if !is {
		return one
	}
	one.Trouble = fmt.Sprintf("jobs wait, and no worker has asked for them for %s", idle.Round(time.Second))
	if live > 0 {
		one.Trouble += fmt.Sprintf("; %d workers call, and take nothing from it", live)
	}
	return one
}

// since is when a worker last asked for the line's jobs, or when it was opened.
func (l *line) since() time.Time {
	if l.asked.IsZero() {
		return l.opened
	}
	return l.asked
}

// takers counts, by line, the workers that wait for jobs or have some.
func (c *core) takers() map[*line]int {
	n := make(map[*line]int)
	for _, w := range c.workers {
		of := make(map[*line]bool)
		for j := range w.holds {
			of[j.line] = true
		}
		for x := range w.calls {
			for _, want := range x.wants {
				of[want.line] = true
			}
		}
		for l := range of {
			n[l]++
		}
	}
	return n
}

// neglected says for how long nobody has asked for the line's jobs, and whether that is worth a word.
func (c *core) neglected(l *line) (idle time.Duration, is bool) {
	idle = c.now.Sub(l.since())
	return idle, len(l.jobs) > l.out && l.calls.n == 0 && idle >= neglected
}

// neglect is that in words that stay the same, and when to look again.
func (c *core) neglect(l *line) (text string, again time.Duration) {
	idle, is := c.neglected(l)
	if !is {
		return "", max(neglected-idle, neglected/6)
	}
	text = "jobs wait, and no worker has asked for them for more than a minute"
	if slices.ContainsFunc(slices.Collect(maps.Values(c.workers)), func(w *worker) bool { return c.now.Sub(w.seen) < neglected }) {
		text += "; workers call this relay, and take nothing from this subscription"
	}
	return text, neglected / 6
}
