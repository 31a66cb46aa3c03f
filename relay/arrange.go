package relay

import (
	"context"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/store"
)

// arrange gives parts, which were just taken over, the cursors that the setting priorities asks for, where they have others. One cursor becomes
// one of each class at once. Several become one when they have come to one snapshot: until then their runner brings them there.
func (o *owner) arrange(ctx context.Context, taken [][]store.Cursor) (arranged [][]store.Cursor, err error) {
	for _, cursors := range taken {
		c := &cursors[0]
		if fits := c.Sub.Settings.Priorities == (c.Part.Class != 0); fits {
			arranged = append(arranged, cursors)
			continue
		}
		changed, err := o.db().ArrangeClasses(ctx, c.Part.Subscription)
		if err != nil { // one that cannot start delays no other: the next poll tries again
			o.health.Failed(health.CannotStart, err, c.Sub.Name)
			continue
		}
		if !changed {
			arranged = append(arranged, cursors)
			continue
		}
		again, err := o.takeOver(ctx, []store.Standing{{Part: c.Part.AllClasses(), Owner: &o.incarnation}})
		if err != nil {
			return nil, err
		}
		if again, err = o.arrange(ctx, again); err != nil { // the setting may have changed meanwhile, and nobody would notice any more
			return nil, err
		}
		arranged = append(arranged, again...)
	}
	return arranged, nil
}
