package delivery

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/states"
)

// filtering asks the subscription's filter which of the messages that its topics match are wanted: when a message is taken in, before
// anything is counted or limited, and again when it comes back from the parked table, for the filter may be another one by then. What carries
// too much to be in memory is judged when it has been read, if the filter looks at what it carries.
type filtering struct {
	wanted    *expression.Program // nil: all are
	evaluates bool                // a filter, or what limits go by
	work      int                 // done in this step
}

// What one step may do for the filter: others wait for the runner meanwhile. It is about what takes ten milliseconds.
const (
	stepWork   = 1 << 20 // bytes of messages,
	costWork   = 10      // of which a unit of cost counts for so many
	judgeAtOne = 16      // messages between looks
)

// atOnce is how many messages of n may be taken in before somebody asks whether that was enough for this step.
func (f *filtering) atOnce(n int) int {
	if !f.evaluates {
		return n
	}
	return min(n, judgeAtOne)
}

// enough says whether the rest of what there is to judge is for the next step.
func (f *filtering) enough() bool { return f.work >= stepWork }

// judgedError is what an expression says of a message that is not to be delivered. It is no outcome: the destination has not been asked.
type judgedError struct {
	unfit error // why it cannot be judged, or transformed; nil: it is not wanted
}

// Error says so.
func (j *judgedError) Error() string {
	if j.unfit == nil {
		return "the filter does not want it"
	}
	return j.unfit.Error()
}

// judge asks the filter about a message, nil if it is wanted or still to be read. It may be called by several goroutines at once.
func (r *Runner) judge(row *message.Row) (j *judgedError, cost int) {
	wanted := r.filtering.wanted
	if wanted == nil || row.Withheld && wanted.Carried() {
		return nil, 0
	}
	wants, cost, err := wanted.Wants(&row.Message, &row.Memo)
	r.count(cost)
	if wants {
		return nil, cost
	}
	if err != nil {
		err = fmt.Errorf("filter: %w", err)
	}
	return &judgedError{unfit: err}, cost
}

// count counts what has cost something: an evaluation. It may be called by several goroutines at once.
func (r *Runner) count(cost int) {
	if cost > 0 {
		r.Env.Metrics.Evaluated()
	}
}

// judgeRead is judge for what has been read by itself.
func (r *Runner) judgeRead(row *message.Row) error {
	if j, _ := r.judge(row); j != nil {
		return j
	}
	return nil
}

// filtered concludes a task that is in no lane yet, unless it is to be delivered.
func (r *Runner) filtered(t *task) bool {
	if r.filtering.wanted == nil {
		return false
	}
	j, cost := r.judge(t.row)
	r.filtering.work += int(t.row.Size()) + cost*costWork
	if j == nil {
		return false
	}
	if !r.cancelTask(t) {
		r.judged(t, j)
	}
	return true
}

// judged concludes a task that an expression does not let pass: no attempt was made. What is not wanted is settled, and writes nothing.
func (r *Runner) judged(t *task, j *judgedError) {
	t.in.dirty = true
	if t.entry != nil {
		t.entry.busy = false
		t.attempts = t.entry.attempts
	}
	if j.unfit != nil {
		r.bury(t, j.Error())
		return
	}
	r.tell(t, states.Delivered, time.Time{}, j.Error())
	r.Env.Metrics.Filtered()
	delete(r.cancels.asked, t.ident())
	if t.entry == nil {
		t.in.settle(t)
		return
	}
	r.retries.parked.remove(t.entry)
	r.retries.unblock(t.entry.keyed())
}
