package subscription

import (
	"cmp"
	"fmt"
	"strings"
)

// Part is what has a cursor: a share of the keys (Shard, 0 for all of them) and a priority (Class, 0 for all of them) of a subscription.
// It is the key of cursors, saves and fences.
type Part struct {
	Subscription string
	Shard, Class int16
}

// Whole is the part that has everything.
func Whole(name string) Part { return Part{Subscription: name} }

// AllClasses is what one runner delivers of it: every class of the shard has the same owner, and the same epoch.
func (p Part) AllClasses() Part { return Part{Subscription: p.Subscription, Shard: p.Shard} }

// Compare orders parts as their rows are locked.
func (p Part) Compare(other Part) int {
	return cmp.Or(strings.Compare(p.Subscription, other.Subscription), cmp.Compare(p.Shard, other.Shard), cmp.Compare(p.Class, other.Class))
}

// String is the subscription's name, with the part if it is not the whole.
func (p Part) String() string {
	if p.Shard == 0 && p.Class == 0 {
		return p.Subscription
	}
	return fmt.Sprintf("%s (shard %d, class %d)", p.Subscription, p.Shard, p.Class)
}
