package delivery

import (
	"time"

	"github.com/postrider/postrider/relay/limits"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// task is a message on its way through a lane.
type task struct {
	row      *message.Row
	key      string
	in       *intake          // of its class
	lane     *lane            // of a sender: the one that it is in
	win      *snapshot.Window // from the feed
	seq      int              // its number in the window or, if win and entry are nil, in the pass
	entry    *entry           // from the parked table
	since    time.Time        // when it was taken in; zero if it comes from the parked table
	attempts int
	sent     time.Time     // when its last attempt began; zero: not known
	fault    *fault        // of a suspect
	of       *limits.Value // what it has in common with others, where limits are
	begun    bool          // it counts towards limits
	alone    bool          // it goes in a batch of its own: it may be the one that fails others
	bare     bool          // nothing of it can be read
}

// turn is the place of the task's class among its runner's.
func (t *task) turn() int {
	if t.in == nil {
		return 0
	}
	return t.in.turn
}
