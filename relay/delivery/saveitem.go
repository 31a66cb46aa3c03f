package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// SaveItem is one cursor's part of a save.
type SaveItem struct {
	Runner      *Runner
	in          *intake
	cursor      snapshot.Position
	text        string
	trouble     string
	destination store.Destination
	Ops         map[snapshot.Ident]*ParkOp
	records     records
}

// Part is what the runner delivers: all classes of its cursor's shard.
func (r *Runner) Part() subscription.Part { return r.Env.Cursor.Part.AllClasses() }

// Parts are those that have a cursor each, in order.
func (r *Runner) Parts() (parts []subscription.Part) {
	for _, in := range r.intakes {
		parts = append(parts, in.part)
	}
	return parts
}

// Part is whose cursor it is.
func (i *SaveItem) Part() subscription.Part { return i.in.part }

// Progress is the item as it is written.
func (i *SaveItem) Progress() store.Progress {
	p := store.Progress{Part: i.Part(), Epoch: i.Runner.Env.Cursor.Epoch, Position: i.cursor, Trouble: i.trouble, Destination: i.destination,
		Results: i.records.results, Attempts: i.records.attempts}
	for m, op := range i.Ops {
		p.Changes = append(p.Changes, op.change(m))
	}
	return p
}

func (o *ParkOp) change(m snapshot.Ident) store.Change {
	if o.remove {
		return store.Change{Message: m, Remove: true}
	}
	c := store.Change{Message: m, State: o.state, Attempts: o.attempts, Due: o.due, Reason: o.reason, Token: o.token, Lease: o.lease, Worker: o.worker, Progress: o.progress}
	if o.Insert != nil {
		c.Insert, c.Copy = o.Insert, o.Copies()
	}
	return c
}

func (o *ParkOp) Copies() store.Copy {
	switch {
	case !o.Insert.Withheld:
		return store.CopyHere
	case o.bare:
		return store.CopyNone
	case o.Careful:
		return store.CopyCare
	}
	return store.CopyThere
}

// Collect returns what there is to save of one of the runner's parts, nil if nothing. Until SavedNow or the end of the runner nothing else is
// saved for it.
func (r *Runner) Collect(part subscription.Part, now time.Time, final bool) *SaveItem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil
	}
	in := r.retries.intakeOf(part.Class)
	in.advance()
	item := &SaveItem{Runner: r, in: in, cursor: in.position(), trouble: r.report.describing, destination: r.destinationFor(in)}
	if final {
		item.trouble = ""
	}
	item.text = item.cursor.String()
	if !r.retries.parked.hasOps(part.Class) && in.records.none() && item.text == in.saved.text && item.trouble == in.saved.trouble && item.destination == in.saved.destination {
		return nil
	}
	if !in.dirty && !final && now.Sub(in.saved.at) < idleSave {
		return nil
	}
	// What is settled beyond the base goes into it when its window closes: segments wait for bases.
	in.dirty = item.cursor.Target != nil || len(item.cursor.Done) > 0
	item.Ops = r.retries.parked.startSaving(part.Class)
	item.records = in.records.start()
	return item
}

// destinationFor is what a part's cursor is to say of the destination: one says it, for all.
func (r *Runner) destinationFor(in *intake) store.Destination {
	if in != r.intakes[0] {
		return store.DestinationUnknown
	}
	return r.report.destination
}

// position is how far the cursor has come.
func (in *intake) position() snapshot.Position {
	if in.prog.Pass == nil && in.pass.resume != nil {
		return *in.pass.resume // the pass that it was loaded with has not gone on yet, but parked messages may have
	}
	return in.prog.Save()
}

// HasParked says whether there are changes of parked messages to save.
func (r *Runner) HasParked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.retries.parked.ops) > 0
}

// SavedNow takes note that the item was saved.
func (r *Runner) SavedNow(item *SaveItem) {
	r.mu.Lock()
	item.in.saved = savedCursor{text: item.text, trouble: item.trouble, destination: item.destination, at: time.Now()}
	r.noteDead(item)
	item.in.records.saved(item.records)
	for m, op := range item.Ops {
		r.cancels.saved(m, op)
	}
	r.retries.acknowledge(item.in.part.Class, item.Ops)
	r.mu.Unlock()
	r.Env.Watch.TellAll(item.records.told)
	r.Life.Wake()
}

// startSaving returns the changes to save of one class, or all where there are no classes. They are under way until saved.
func (p *parkedSet) startSaving(class int16) map[snapshot.Ident]*ParkOp {
	var ops map[snapshot.Ident]*ParkOp
	if class == 0 {
		ops, p.ops = p.ops, make(map[snapshot.Ident]*ParkOp)
		p.saving = ops
	} else {
		ops = make(map[snapshot.Ident]*ParkOp)
		if p.saving == nil {
			p.saving = make(map[snapshot.Ident]*ParkOp)
		}
		for m, op := range p.ops {
			if op.entry.class == class {
				ops[m], p.saving[m] = op, op
				delete(p.ops, m)
			}
		}
	}
	for _, op := range ops {
		op.fix()
		if e := op.entry; e.stored != "" && !op.remove && !states.Of(op.state).Loadable() {
			e.stored = op.state // from now on the table may have it so: whoever looks for it meanwhile would take it for discarded
		}
	}
	return ops
}

// saved forgets changes that have been saved.
func (p *parkedSet) saved(class int16, ops map[snapshot.Ident]*ParkOp) {
	for m, op := range ops {
		if op.Insert != nil {
			p.unsaved -= op.Insert.Size()
		}
		if class != 0 {
			delete(p.saving, m)
		}
	}
	if class == 0 {
		p.saving = nil
	}
}

// hasOps says whether there are changes of a class to save.
func (p *parkedSet) hasOps(class int16) bool {
	if class == 0 {
		return len(p.ops) > 0
	}
	for _, op := range p.ops {
		if op.entry.class == class {
			return true
		}
	}
	return false
}
