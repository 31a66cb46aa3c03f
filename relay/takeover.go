package relay

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/relay/store"
)

// takeOver makes this relay the owner of cursors that are nobody's. What holds something that cannot be used is dealt with here, and left out.
func (o *owner) takeOver(ctx context.Context, free []store.Standing) ([]store.Cursor, error) {
	var taken []store.Cursor
	err := o.db().TakeOver(ctx, free, func(c store.Cursor, err error) {
		if err != nil {
			err = Unusable(fmt.Errorf("the cursor cannot be used: %w", err))
		} else {
			err = o.config.settle(&c.Sub, c.Settings)
		}
		if err != nil {
			o.cannotStart(c, err)
			return
		}
		taken = append(taken, c)
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// takeOverSingly finds the cursors that the server refuses to change, and pauses their subscriptions: the others go on.
func (o *owner) takeOverSingly(ctx context.Context, free []store.Standing, refused error) (taken []store.Cursor, err error) {
	for _, s := range free {
		cursors := []store.Cursor(nil)
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
