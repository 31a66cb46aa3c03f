package delivery

import (
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/subscription"
)

// order is what a subscription's ordering means in its runner.
type order subscription.Ordering

// strict says whether each message waits for all that were inserted before it.
func (o order) strict() bool { return o == order(subscription.OrderStrict) }

// lanes returns how many there may be, and the most messages in a batch.
func (o order) lanes(n, batch int) (int, int) {
	if o.strict() {
		return 1, 1
	}
	return n, batch
}

// key is the key by which a message of the log finds its lane.
func (o order) key(row *message.Row) string {
	if o != order(subscription.OrderByKey) {
		return ""
	}
	return row.Key
}

// strictKey is what all parked deliveries of a strict subscription have for a key: each waits for those before it.
const strictKey = "\x00"

// parkedKey is the key by which a parked delivery blocks others.
func (o order) parkedKey(key string) string {
	switch {
	case o.strict():
		return strictKey
	case o == order(subscription.OrderNone):
		return ""
	}
	return key
}
