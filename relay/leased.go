package relay

import (
	"errors"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

// deferred parks a message until its callback comes or its lease is over. The database's clock tells when that is: callbacks are
// judged by it too.
func (r *runner) deferred(t *task, err error, lease time.Duration) {
	r.park(t, stateLeased, time.Time{}, "")
	e := r.retries.parked.byID[t.ident()]
	e.lease = lease
	if o, ok := errors.AsType[*sinks.OutcomeError](err); ok {
		e.token = o.Token
	}
}

// ident is the message's row.
func (t *task) ident() snapshot.Ident {
	if t.entry != nil {
		return t.entry.ident()
	}
	return t.row.Ident()
}

func (r *runner) awaitsCallbacks() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.retries.parked.waiting > 0
}

// calledBack concludes a delivery. False says that it cannot be concluded now: it is found again, if it still matters. It waits for the
// answer of the save that recorded the delivery, which a callback may overtake.
func (r *runner) calledBack(c store.CalledBack, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.life.wake()
	e := r.retries.parked.byID[c.Message]
	if r.gone || e == nil || e.state != stateLeased || r.retries.parked.pending(e.ident()) {
		return false
	}
	r.intake.dirty = true
	t := &task{key: e.key, entry: e, attempts: e.attempts}
	switch {
	case c.State == states.Completed:
		r.retries.parked.remove(e)
		r.retries.unblock(e.key)
		r.env.save()
		return true
	case c.State == stateLeased:
		r.retry(t, "no callback came before the lease was over", 0, now)
	case c.Due == nil:
		r.bury(t, c.Reason)
	default:
		r.retry(t, c.Reason, c.Due.Sub(now), now)
	}
	return true
}
