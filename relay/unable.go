package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// unable is a subscription that this relay cannot deliver, for something that it lacks: a secret, a file, a build that knows the
// setting. That is no reason to pause it for all. The relay lets it go, says why in its row and its log, counts it in nobody's
// share, and looks from time to time whether it still is so.
type unable struct {
	Version int64     `json:"version"`
	Reason  string    `json:"reason"` // what all may see who read the table
	Since   time.Time `json:"since"`

	next time.Time // when to try again
	wait backoff.BackOff
}

// detailed is an error that tells this relay's operator more than all those who may read the database.
type detailed interface {
	error
	Detail() string
}

// Unusable marks an error that is true on every machine and in every build: as the error of Config.Open it pauses the subscription.
func Unusable(err error) error { return &badSubscription{err} }

// badSubscription is an error that trying again cannot fix: the subscription is paused with it as the reason.
type badSubscription struct{ err error }

// Error returns the reason.
func (b *badSubscription) Error() string { return b.err.Error() }

// Unwrap returns the reason.
func (b *badSubscription) Unwrap() error { return b.err }

// lacksError is what this relay lacks to deliver a subscription.
type lacksError struct{ err error }

// Error returns the reason.
func (l *lacksError) Error() string { return l.err.Error() }

// Unwrap returns the reason.
func (l *lacksError) Unwrap() error { return l.err }

// lacks marks an error of this relay alone, unless it is true everywhere.
func lacks(err error) error {
	if _, everywhere := errors.AsType[*badSubscription](err); everywhere || err == nil {
		return err
	}
	return &lacksError{err}
}

// leaveToOthers notes that this relay cannot deliver a subscription. The next letGo releases its cursor.
func (g *generation) leaveToOthers(name string, version int64, err error) {
	reason := g.pool.Encoding().Storable(err.Error())
	g.mu.Lock()
	u := g.unable[name]
	news := u == nil || u.Version != version || u.Reason != reason
	if u == nil || u.Version != version {
		u = &unable{Version: version, Since: time.Now(), wait: lookAgain()}
		g.unable[name] = u
	}
	u.Reason, u.next = reason, time.Now().Add(u.wait.NextBackOff())
	g.unableChanged = g.unableChanged || news
	g.metrics.Unable.Set(float64(len(g.unable)))
	g.mu.Unlock()
	if !news {
		return
	}
	args := []any{"subscription", name, "because", err.Error()}
	if d, ok := errors.AsType[detailed](err); ok {
		args = append(args, "detail", d.Detail())
	}
	g.log.Warn("this relay cannot deliver a subscription and leaves it to others", args...)
}

// lookAgain waits long enough that nothing is spent on what stays as it is, and short enough for a file that is just being written.
func lookAgain() backoff.BackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(0))
}

// canAgain forgets what leaveToOthers noted.
func (g *generation) canAgain(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.unable, name)
	g.unableChanged = true
	g.metrics.Unable.Set(float64(len(g.unable)))
}

// cannot returns the subscriptions that this relay cannot deliver.
func (g *generation) cannot() map[string]unable {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make(map[string]unable, len(g.unable))
	for name, u := range g.unable {
		all[name] = *u
	}
	return all
}

// reviewUnable forgets what has changed, and looks in the background whether what is due is still so: without taking the cursor from
// anybody, since it costs a relay that delivers nothing if another one still cannot.
func (o *owner) reviewUnable(standings map[subscription.Part]store.Standing) {
	now := time.Now()
	var due []string
	for name, u := range o.cannot() {
		at, exists := standings[subscription.Whole(name)]
		switch {
		case !exists || !at.Active || at.Version != u.Version:
			o.canAgain(name)
		case now.After(u.next):
			due = append(due, name)
		}
	}
	if len(due) == 0 || !o.looking.CompareAndSwap(false, true) {
		return
	}
	o.stops.Go(func() {
		defer o.looking.Store(false)
		for _, name := range due {
			o.lookWhether(o.life, name)
		}
		async.Signal(o.repoll)
	})
}

// lookWhether opens a subscription's sink and closes it again.
func (o *owner) lookWhether(ctx context.Context, name string) {
	s, settings, version, err := o.db().Subscription(ctx, name)
	if err != nil {
		return // the next poll knows more
	}
	if err = o.config.settle(&s, settings); err == nil {
		var sink interface{ Close() error }
		if sink, err = o.open(ctx, s); err == nil {
			err = sink.Close()
		}
	}
	if _, not := errors.AsType[*lacksError](err); not {
		o.leaveToOthers(name, version, err)
		return
	}
	o.log.Info("this relay can deliver a subscription again", "subscription", name)
	o.canAgain(name)
}

// letGo releases the cursors of what cannot be delivered and tells others why.
func (o *owner) letGo(ctx context.Context) error {
	o.mu.Lock()
	changed := o.unableChanged
	o.unableChanged = false
	text, err := json.Marshal(o.unable)
	names := slices.Collect(maps.Keys(o.unable))
	o.mu.Unlock()
	names = slices.DeleteFunc(names, o.hasAny)
	if err != nil || !changed {
		return err
	}
	if err = o.registry().LeaveToOthers(ctx, names, string(text)); err != nil {
		o.mu.Lock()
		o.unableChanged = true
		o.mu.Unlock()
	}
	return err
}

// stranded is what this relay cannot deliver and nobody else does either.
type stranded struct {
	text   string
	since  time.Time
	nobody bool // can: waiting for others is no use
}

// judgeStranded tells readiness what nobody delivers.
func (o *owner) judgeStranded(p peers, standings map[subscription.Part]store.Standing) {
	var texts []string
	is := stranded{since: time.Now()}
	for name, u := range o.cannot() {
		at, exists := standings[subscription.Whole(name)]
		if !exists || !at.Active || at.Owner != nil && *at.Owner != o.incarnation && has(p.counters, *at.Owner) {
			continue
		}
		texts = append(texts, fmt.Sprintf("subscription %q is delivered by nobody: this relay cannot: %s", name, u.Reason))
		is.nobody = is.nobody || p.able(at) == 0
	}
	if len(texts) == 0 {
		o.stranded.Store(nil)
		return
	}
	if before := o.stranded.Load(); before != nil {
		is.since = before.since
	}
	slices.Sort(texts)
	is.text = strings.Join(texts[:min(len(texts), 3)], "; ")
	if more := len(texts) - 3; more > 0 {
		is.text += fmt.Sprintf("; and %d more", more)
	}
	o.stranded.Store(&is)
}

func has[K comparable, V any](m map[K]V, key K) bool {
	_, ok := m[key]
	return ok
}
