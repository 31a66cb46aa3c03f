package pull

import (
	"container/heap"
	"encoding/json"
	"time"

	"github.com/postrider/postrider/sinks"
)

// job is a delivery that waits for a worker or is out with one.
type job struct {
	sinks.Delivery
	line  *line
	done  func(outcome error)
	watch *watch

	token    int64   // of the last hand-out; 0: there was none
	with     *worker // who has it; nil: it waits
	doubtful bool
	unwanted bool // whoever has it may end it, and nobody is to have it after that
	lease    leasing

	handed    handing
	check     time.Time // when to look at it again, at the latest
	heapIndex int       // among what is out; -1: it waits
	spot      spot[job] // in its line, while it waits
}

// handing is what is known of a hand-out.
type handing struct {
	at       time.Time
	deadline time.Time // of the attempt
	progress Progress
	news     bool // the row does not have that yet
}

// Progress is what a worker has told of a job that it works on.
type Progress struct {
	Percent float64 `json:"percent"`
	Note    string  `json:"note,omitempty"`
}

// text is the progress as rows have it, nil if there is none.
func (p Progress) text() []byte {
	if p == (Progress{}) {
		return nil
	}
	text, err := json.Marshal(p)
	if err != nil { // a number that JSON has not: no request has it either
		return nil
	}
	return text
}

// Job is a delivery as it is handed out.
type Job struct {
	sinks.Delivery
	Token       string
	MaxAttempts int
	Deadline    time.Time
	// Free is set where the message was loaded for this answer: it gives its memory back.
	Free func()
}

// show is the job as its worker sees it.
func (j *job) show() Job {
	return Job{Delivery: j.Delivery, Token: tokenText(j.token), MaxAttempts: j.line.setup.MaxAttempts, Deadline: j.handed.deadline}
}

// next is when something may happen to a job that is out.
func (j *job) next() time.Time {
	at := earlier(j.handed.deadline, j.silent())
	switch {
	case !j.lease.out:
		at = earlier(at, j.handed.at.Add(leaseAfter))
	case j.handed.news:
		at = earlier(at, j.lease.told.Add(tellEvery))
	}
	if j.doubtful {
		at = earlier(at, j.cleared())
	}
	return at
}

// silent is when its worker counts as lost if it goes on to be silent. One that got the job by a call that has waited has had no reason
// to call since; that its connection is open says nothing, for so is that of a process which hangs.
func (j *job) silent() time.Time {
	at := j.with.seen
	if at.Before(j.handed.at) {
		at = j.handed.at
	}
	at = at.Add(j.line.setup.WorkerTTL)
	if at.Before(j.lease.spared) {
		return j.lease.spared
	}
	return at
}

// cleared is when a doubtful job has been out for so long that it is none any more.
func (j *job) cleared() time.Time { return j.handed.at.Add(j.line.setup.WorkerTTL) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// checks orders what is out by when to look at it.
type checks []*job

func (h checks) Len() int           { return len(h) }
func (h checks) Less(i, j int) bool { return h[i].check.Before(h[j].check) }
func (h checks) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *checks) Push(x any) {
	j := x.(*job)
	j.heapIndex = len(*h)
	*h = append(*h, j)
}

// Pop implements heap.Interface.
func (h *checks) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	j.heapIndex = -1
	return j
}

// schedule files the job by when to look at it next.
func (h *checks) schedule(j *job) {
	j.check = j.next()
	if j.heapIndex < 0 {
		heap.Push(h, j)
		return
	}
	heap.Fix(h, j.heapIndex)
}

func (h *checks) remove(j *job) {
	if j.heapIndex >= 0 {
		heap.Remove(h, j.heapIndex)
	}
}
