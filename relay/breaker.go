package relay

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/postrider/postrider/sinks"
)

const (
	tripAfter  = 5 // failures in a row after which a destination counts as down
	probeFirst = 250 * time.Millisecond
	probeMost  = 30 * time.Second
)

// breaker keeps deliveries off a destination that is down. While it is open, one message at a time probes.
type breaker struct {
	open    bool
	prober  *lane // carries the probe under way
	next    time.Time
	reason  string
	waits   *backoff.ExponentialBackOff
	suspect *task // the last probe that failed: if one of another key passes, the fault is its own
	turn    int   // rotates the lanes that probes come from
}

// trip opens the breaker, or keeps it open.
func (b *breaker) trip(now time.Time, after time.Duration, err error) {
	if b.open {
		b.next = later(b.next, now.Add(after))
		return
	}
	if b.waits == nil {
		b.waits = backoff.NewExponentialBackOff(backoff.WithInitialInterval(probeFirst),
			backoff.WithMaxInterval(probeMost), backoff.WithMaxElapsedTime(0))
	}
	b.waits.Reset()
	b.open, b.reason = true, err.Error()
	b.next = now.Add(max(b.waits.NextBackOff(), after))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judgeProbe draws the consequences of a probe for the breaker.
func (r *runner) judgeProbe(t *task, kind sinks.Kind, err error, after time.Duration, now time.Time) {
	b := &r.breaker
	switch kind {
	case sinks.KindAccepted, sinks.KindDeferred, sinks.KindPermanent: // it answers
		b.open = false
		r.failures = 0
		if s := b.suspect; s != nil && s != t && (s.key == "" || s.key != t.key) {
			r.parkSuspect(s, now)
		}
		b.suspect = nil
	default:
		b.reason = err.Error()
		b.suspect = nil
		if t.entry == nil {
			b.suspect = t
		}
		b.next = now.Add(max(b.waits.NextBackOff(), after))
	}
}

// parkSuspect parks the message whose probe failed when another's passed: one message cannot hold a subscription. Of its
// attempts only the last says something about the message: the others may have met the outage.
func (r *runner) parkSuspect(t *task, now time.Time) {
	if r.withdraw(t) {
		r.release(t)
		t.attempts = 1
		r.retry(t, r.breaker.reason, 0, now)
	}
}

// withdraw takes a task out of its queue.
func (r *runner) withdraw(t *task) bool {
	queue := &r.free
	if t.key != "" {
		queue = &r.laneOf(t.key).queue
	}
	for i, x := range *queue {
		if x == t {
			*queue = append((*queue)[:i:i], (*queue)[i+1:]...)
			return true
		}
	}
	return false
}

// probe sends one message if it is time, taking turns among the lanes so that the next is likely one of another key.
func (r *runner) probe(now time.Time) {
	b := &r.breaker
	if b.prober != nil || now.Before(b.next) {
		return
	}
	for range len(r.lanes) {
		b.turn++
		l := r.lanes[b.turn%len(r.lanes)]
		if l.busy {
			continue
		}
		r.avoidSuspect(l)
		r.form(l, 1)
		if len(l.batch) > 0 {
			b.prober = l
			l.send(r)
			return
		}
	}
}

// avoidSuspect moves another key's message, or another message without a key, before the one whose probe failed last.
func (r *runner) avoidSuspect(l *lane) {
	s := r.breaker.suspect
	if s == nil || r.sub.Settings.Ordering == OrderStrict {
		return
	}
	if len(r.free) > 1 && r.free[0] == s {
		r.free[0], r.free[1] = r.free[1], r.free[0]
	}
	if len(l.queue) == 0 || l.queue[0] != s {
		return
	}
	for i, t := range l.queue {
		if t.key != s.key {
			copy(l.queue[1:i+1], l.queue[:i])
			l.queue[0] = t
			return
		}
	}
}
