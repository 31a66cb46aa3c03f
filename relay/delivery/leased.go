package delivery

import (
	"errors"
	"time"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

var errNoCallback = errors.New("no callback came before the lease was over")

// lease parks a message until its callback comes or its lease is over. The database's clock tells when that is: callbacks are
// judged by it too.
func (r *Runner) lease(t *task, err error, lease time.Duration) {
	r.retries.lent = loan{lease: lease, of: t.of, since: t.sent, topic: topicOf(t)}
	if o, ok := errors.AsType[*sinks.OutcomeError](err); ok {
		r.retries.lent.token, r.retries.lent.worker, r.retries.lent.progress = o.Token, o.Worker, o.Progress
	}
	r.park(t, states.Leased, time.Time{}, "")
}

// ident is the message's row.
func (t *task) ident() snapshot.Ident {
	if t.entry != nil {
		return t.entry.ident()
	}
	return t.row.Ident()
}

func (r *Runner) AwaitsCallbacks() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.retries.parked.waiting > 0
}

// CalledBack concludes a delivery. False says that it cannot be concluded now: it is found again, if it still matters. It waits for the
// answer of the save that recorded the delivery, which a callback may overtake.
func (r *Runner) CalledBack(c store.CalledBack, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.Life.Wake()
	e := r.retries.parked.byID[c.Message]
	if r.gone || e == nil || e.state != states.Leased || r.retries.parked.pending(e.ident()) {
		return false
	}
	if e.lessors() && c.State == states.Leased {
		return false // the sink knows better
	}
	t := r.retries.taskOf(e)
	t.in.dirty = true
	defer r.retries.unblockOthers(e)
	a := attempted{task: t, kind: sinks.KindFailed, err: errors.New(c.Reason)}
	switch {
	case c.State == states.Completed:
		r.tell(t, states.Delivered, time.Time{}, "")
		r.retries.parked.remove(e)
		r.retries.unblock(e.keyed())
		r.Env.Save()
		a.kind, a.err = sinks.KindAccepted, nil
	case c.State == states.Leased:
		a.kind, a.err = sinks.KindLost, errNoCallback
		r.retry(t, errNoCallback.Error(), 0, now)
	case c.Due == nil:
		a.kind = sinks.KindPermanent
		r.bury(t, c.Reason)
	default:
		r.retry(t, c.Reason, c.Due.Sub(now), now)
	}
	r.record(a, now)
	return true
}
