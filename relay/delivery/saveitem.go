package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// SaveItem is one cursor's part of a save.
type SaveItem struct {
	Runner  *Runner
	cursor  snapshot.Position
	text    string
	trouble string
	Ops     map[snapshot.Ident]*ParkOp
}

// Part is what the runner delivers: all classes of its cursor's shard.
func (r *Runner) Part() subscription.Part { return r.Env.Cursor.Part.AllClasses() }

func (i *SaveItem) Part() subscription.Part { return i.Runner.Part() }

// Progress is the item as it is written.
func (i *SaveItem) Progress() store.Progress {
	p := store.Progress{Part: i.Part(), Epoch: i.Runner.Env.Cursor.Epoch, Position: i.cursor, Trouble: i.trouble}
	for m, op := range i.Ops {
		p.Changes = append(p.Changes, op.change(m))
	}
	return p
}

func (o *ParkOp) change(m snapshot.Ident) store.Change {
	if o.remove {
		return store.Change{Message: m, Remove: true}
	}
	c := store.Change{Message: m, State: o.state, Attempts: o.attempts, Due: o.due, Reason: o.Reason, Token: o.token, Lease: o.lease, Worker: o.worker}
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

// Collect returns what there is to save, nil if nothing. Until savedNow or the end of the runner nothing else is saved for it.
func (r *Runner) Collect(now time.Time, final bool) *SaveItem {
	r.Mu.Lock()
	defer r.Mu.Unlock()
	if r.Gone {
		return nil
	}
	r.Intake.advance()
	item := &SaveItem{Runner: r, cursor: r.Intake.prog.Save(), trouble: r.report.describing}
	if r.Intake.prog.Pass == nil && r.Intake.pass.resume != nil {
		item.cursor = *r.Intake.pass.resume // the pass that it was loaded with has not gone on yet, but parked messages may have
	}
	if final {
		item.trouble = ""
	}
	item.text = item.cursor.String()
	if len(r.Retries.Parked.Ops) == 0 && item.text == r.report.saved && item.trouble == r.report.described {
		return nil
	}
	if !r.Intake.Dirty && !final && now.Sub(r.report.savedAt) < idleSave {
		return nil
	}
	// What is settled beyond the base goes into it when its window closes: segments wait for bases.
	r.Intake.Dirty = item.cursor.Target != nil || len(item.cursor.Done) > 0
	r.Retries.Parked.saving, r.Retries.Parked.Ops = r.Retries.Parked.Ops, make(map[snapshot.Ident]*ParkOp)
	item.Ops = r.Retries.Parked.saving
	for _, op := range item.Ops {
		op.fix()
	}
	return item
}

// HasParked says whether there are changes of parked messages to save.
func (r *Runner) HasParked() bool {
	r.Mu.Lock()
	defer r.Mu.Unlock()
	return len(r.Retries.Parked.Ops) > 0
}

// SavedNow takes note that the item was saved.
func (r *Runner) SavedNow(item *SaveItem) {
	r.Mu.Lock()
	r.report.saved, r.report.savedAt, r.report.described = item.text, time.Now(), item.trouble
	r.noteDead(item)
	r.Retries.acknowledge()
	r.Mu.Unlock()
	r.Life.Wake()
}
