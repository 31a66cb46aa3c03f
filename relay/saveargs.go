package relay

import (
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

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
