package delivery

import (
	"slices"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

// classes are the cursors that a runner has: one, or one for each class.
func (e *Environment) classes() []store.Cursor {
	if len(e.Classes) > 1 {
		return e.Classes
	}
	return []store.Cursor{e.Cursor}
}

// intakeOf is what takes in the messages of a priority, or of a class.
func (q *retries) intakeOf(priority int16) *intake {
	if len(q.intakes) == 1 {
		return q.intakes[0]
	}
	return q.intakes[priority-1]
}

// classOf is the class of the cursor that a message of this priority belongs to.
func (e *Environment) classOf(priority int16) int16 {
	if len(e.Classes) > 1 {
		return priority
	}
	return 0
}

// taskOf is a parked delivery on its way to what becomes of it.
func (q *retries) taskOf(e *entry) *task {
	return &task{key: e.key, in: q.intakeOf(e.class), entry: e, attempts: e.attempts, sent: e.since}
}

// joining is what a runner knows that is to bring its classes together.
type joining struct {
	target *snapshot.Snapshot // at which all are to end; nil: not known yet
	told   bool               // that they have
}

// joins says whether the subscription has cursors of classes and no priorities any more: they are brought to one snapshot, at which one
// cursor takes their place. Until then each class goes on by itself, so that nothing is delivered twice or left out. What is newer waits for
// what is older: so it would have to, too, without priorities.
func (e *Environment) joins() bool { return len(e.Classes) > 1 && !e.Sub.Settings.Priorities }

// nextJoining starts the pass that brings the class to where all are to end. The first class finds out where that is.
func (in *intake) nextJoining() {
	j := in.joining
	switch {
	case j.target == nil && in.turn == 0:
		in.startReader(nil, nil)
	case j.target != nil && !in.hasJoined():
		in.startReader(j.target, nil)
	}
}

// hasJoined says whether all that the class has up to the common snapshot is settled, and nothing beyond.
func (in *intake) hasJoined() bool {
	j := in.joining
	return j.target != nil && in.prog.Pass == nil && in.prog.Base.Equal(*j.target) && len(in.prog.Skip) == 0
}

// HasJoined says whether all classes have come to the snapshot at which they are to become one: the runner does nothing more.
func (r *Runner) HasJoined() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.joining.told
}

// join looks whether all classes have come together, and has them joined.
func (r *Runner) join() {
	if !r.Env.joins() || r.joining.told {
		return
	}
	for _, in := range r.intakes {
		if in.pass.reader != nil || !in.hasJoined() {
			return
		}
	}
	r.joining.told, r.stopping = true, true
	r.Env.Joined()
}

// keyClass is a key in one class: order holds within it. Across classes one message of a key at most is out.
type keyClass struct {
	key   string
	class int16
}

func (t *task) keyed() keyClass {
	if t.in == nil {
		return keyClass{key: t.key}
	}
	return keyClass{t.key, t.in.part.Class}
}

func (e *entry) keyed() keyClass { return e.keyClass }

// isOut files an entry that is leased: whoever has it works on its key.
func (p *parkedSet) isOut(e *entry) {
	if e.key == "" || e.state != states.Leased {
		return
	}
	if p.out == nil {
		p.out = make(map[string][]*entry)
	}
	p.out[e.key] = append(p.out[e.key], e)
}

// isBack undoes isOut.
func (p *parkedSet) isBack(e *entry) {
	if e.key == "" || e.state != states.Leased {
		return
	}
	if left := slices.DeleteFunc(p.out[e.key], func(x *entry) bool { return x == e }); len(left) > 0 {
		p.out[e.key] = left
	} else {
		delete(p.out, e.key)
	}
}

// outBeside says whether another message of the key is out: one of another class, or one that is younger than a message that was redriven, or that
// was of another class before.
func (p *parkedSet) outBeside(key string, this *entry) bool {
	return len(p.out) > 0 && slices.ContainsFunc(p.out[key], func(e *entry) bool { return e != this })
}
