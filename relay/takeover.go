package relay

import (
	"context"
	"fmt"
	"slices"

	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// takeOver makes this relay the owner of cursors that are nobody's. A part is taken with all its classes or not at all. What holds something that
// cannot be used is dealt with here, and left out. It returns the cursors of each part, by class.
func (o *owner) takeOver(ctx context.Context, free []store.Standing) (taken [][]store.Cursor, err error) {
	var all []store.Cursor
	bad := make(map[subscription.Part]bool)
	err = o.db().TakeOver(ctx, free, func(c store.Cursor, err error) {
		if err != nil {
			err = Unusable(fmt.Errorf("the cursor cannot be used: %w", err))
		} else {
			err = o.config.settle(&c.Sub, c.Settings)
		}
		if part := c.Part.AllClasses(); err != nil && !bad[part] {
			o.cannotStart(c, err)
			bad[part] = true
		}
		all = append(all, c)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b store.Cursor) int { return a.Part.Compare(b.Part) })
	for _, c := range all {
		switch n := len(taken); {
		case bad[c.Part.AllClasses()]:
		case n > 0 && taken[n-1][0].Part.AllClasses() == c.Part.AllClasses():
			taken[n-1] = append(taken[n-1], c)
		default:
			taken = append(taken, []store.Cursor{c})
		}
	}
	return taken, nil
}

// takeOverAll takes the parts over as far as that can be, with the cursors that their subscriptions ask for.
func (o *owner) takeOverAll(ctx context.Context, free []store.Standing) ([][]store.Cursor, error) {
	cursors, err := o.takeOver(ctx, free)
	if store.OfOneRow(err) {
		cursors, err = o.takeOverSingly(ctx, free, err)
	}
	if err != nil {
		return nil, err
	}
	return o.arrange(ctx, cursors)
}

// takeOverSingly finds the cursors that the server refuses to change, and pauses their subscriptions: the others go on.
func (o *owner) takeOverSingly(ctx context.Context, free []store.Standing, refused error) (taken [][]store.Cursor, err error) {
	for _, s := range free {
		cursors := [][]store.Cursor(nil)
		if len(free) > 1 {
			cursors, refused = o.takeOver(ctx, []store.Standing{s})
		}
		switch {
		case store.OfOneRow(refused):
			reason := "its cursor cannot be taken over: " + refused.Error()
			if err := o.db().PauseVersion(ctx, s.Name(), s.Version, reason); err != nil {
				return taken, err
			}
			o.ownPauses[s.Name()] = s.Version + 1
			o.log.Error("subscription paused", "subscription", s.Name(), "because", reason)
		case refused != nil:
			return taken, refused
		}
		taken = append(taken, cursors...)
	}
	return taken, nil
}
