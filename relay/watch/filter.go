package watch

import (
	"slices"

	"github.com/postrider/postrider/outbox/topic"
)

// Filter says which changes somebody wants: those for which all that it says holds. The zero value wants all.
type Filter struct {
	Subscriptions []string
	Statuses      []string
	Keys          []string
	IDs           []int64
	Topics        *topic.Matcher
	Own           bool // none that other relays have told of
}

// Wants says whether a change is wanted.
func (f *Filter) Wants(c *Change) bool {
	if c.About != nil {
		return f.ofSubscriptions() && among(f.Subscriptions, c.Subscription)
	}
	return among(f.IDs, c.ID) && among(f.Keys, c.Key) && among(f.Subscriptions, c.Subscription) && among(f.Statuses, c.Status) &&
		(f.Topics == nil || f.Topics.Match(c.Topic)) && !(f.Own && c.Foreign)
}

// ofSubscriptions says whether what is told of subscriptions is wanted at all.
func (f *Filter) ofSubscriptions() bool {
	return f.IDs == nil && f.Keys == nil && f.Statuses == nil && f.Topics == nil && !f.Own
}

// among says whether a value is one of those that are wanted.
func among[T comparable](wanted []T, value T) bool {
	return wanted == nil || slices.Contains(wanted, value)
}
