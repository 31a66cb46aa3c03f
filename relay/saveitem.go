package relay

import (
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// saveItem is one cursor's part of a save.
type saveItem struct {
	runner  *runner
	cursor  snapshot.Position
	text    string
	trouble string
	ops     map[snapshot.Ident]*parkOp
}

// part is what the runner delivers: all of its subscription.
func (r *runner) part() subscription.Part { return subscription.Whole(r.env.sub.Name) }

func (i *saveItem) part() subscription.Part { return i.runner.part() }

// progress is the item as it is written.
func (i *saveItem) progress() store.Progress {
	p := store.Progress{Part: i.part(), Epoch: i.runner.env.cursor.epoch, Position: i.cursor, Trouble: i.trouble}
	for m, op := range i.ops {
		p.Changes = append(p.Changes, op.change(m))
	}
	return p
}

func (o *parkOp) change(m snapshot.Ident) store.Change {
	if o.remove {
		return store.Change{Message: m, Remove: true}
	}
	c := store.Change{Message: m, State: o.state, Attempts: o.attempts, Due: o.due, Reason: o.reason, Token: o.token, Lease: o.lease}
	if o.insert != nil {
		c.Insert, c.Copy = o.insert, o.copies()
	}
	return c
}

func (o *parkOp) copies() store.Copy {
	switch {
	case !o.insert.Withheld:
		return store.CopyHere
	case o.bare:
		return store.CopyNone
	case o.careful:
		return store.CopyCare
	}
	return store.CopyThere
}

// collect returns what there is to save, nil if nothing. Until savedNow or the end of the runner nothing else is saved for it.
func (r *runner) collect(now time.Time, final bool) *saveItem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil
	}
	r.intake.advance()
	item := &saveItem{runner: r, cursor: r.intake.prog.Save(), trouble: r.report.describing}
	if r.intake.prog.Pass == nil && r.intake.pass.resume != nil {
		item.cursor = *r.intake.pass.resume // the pass that it was loaded with has not gone on yet, but parked messages may have
	}
	if final {
		item.trouble = ""
	}
	item.text = item.cursor.String()
	if len(r.retries.parked.ops) == 0 && item.text == r.report.saved && item.trouble == r.report.described {
		return nil
	}
	if !r.intake.dirty && !final && now.Sub(r.report.savedAt) < idleSave {
		return nil
	}
	// What is settled beyond the base goes into it when its window closes: segments wait for bases.
	r.intake.dirty = item.cursor.Target != nil || len(item.cursor.Done) > 0
	r.retries.parked.saving, r.retries.parked.ops = r.retries.parked.ops, make(map[snapshot.Ident]*parkOp)
	item.ops = r.retries.parked.saving
	for _, op := range item.ops {
		op.fix()
	}
	return item
}

// hasParked says whether there are changes of parked messages to save.
func (r *runner) hasParked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.retries.parked.ops) > 0
}

// savedNow takes note that the item was saved.
func (r *runner) savedNow(item *saveItem) {
	r.mu.Lock()
	r.report.saved, r.report.savedAt, r.report.described = item.text, time.Now(), item.trouble
	r.noteDead(item)
	r.retries.acknowledge()
	r.mu.Unlock()
	r.life.wake()
}
