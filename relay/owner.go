package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

const (
	pollEvery = time.Second      // between looks at subscriptions, cursors and other relays
	aloneBump = 10 * time.Second // between signs of life of a relay that is alone and whose sessions do not tell
)

// owner takes cursors over, runs their runners, and lets go what was paused, changed, lost or should be another relay's.
type owner struct {
	*generation
	others map[string]watched // by incarnation
	bumped time.Time
	sick   bool // something failed when the last poll ended

	ownPauses map[string]int64           // the version of a subscription that this relay has paused itself
	paused    map[string]bool            // those that were paused at the last poll
	resumed   map[string]bool            // those that were paused and have not been taken over yet
	handed    map[subscription.Part]bool // those that this relay lets go for another one
	again     map[subscription.Part]bool // those that it lets go for a change, and takes again
}

func newOwner(g *generation) *owner {
	return &owner{generation: g, others: make(map[string]watched), ownPauses: make(map[string]int64),
		paused: make(map[string]bool), resumed: make(map[string]bool), handed: make(map[subscription.Part]bool), again: make(map[subscription.Part]bool)}
}

// watched is another relay's row: it counts as dead when it has not changed for a lease, by our own clock.
type watched struct {
	counter int64
	since   time.Time
}

// peers is what one read of postrider.relays shows.
type peers struct {
	counters map[string]int64
	names    map[string]string
	eldest   string                      // the one that registered first
	unable   map[string]map[string]int64 // by relay: the versions of the subscriptions that it cannot deliver
}

func (o *owner) pollInterval() time.Duration { return min(pollEvery, o.config.Lease/4) }

// run polls until ctx is cancelled. It returns errLost when the relay's own row is gone.
func (o *owner) run(ctx context.Context) error {
	ticker := time.NewTicker(o.pollInterval())
	defer ticker.Stop()
	for {
		if err := o.poll(ctx); err != nil && ctx.Err() == nil {
			if err = store.OnStandby(err); errors.Is(err, store.ErrLost) || isFatal(err) {
				return err
			}
			o.pollFailed(ctx, err)
		}
		if !o.unprepared && o.health.Foreign.Load() {
			return health.ErrForeign // begin again, now without
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.repoll:
		case <-ticker.C:
		}
	}
}

// pollFailed tells a database that is away from one that does not carry this out. Nobody else has to poll so regularly, so that it is
// here that an outage is found.
func (o *owner) pollFailed(ctx context.Context, err error) {
	o.health.Sees(err)
	if !dberr.Away(err) {
		o.health.Failed(health.CannotPoll, err)
		return
	}
	if dberr.Code(err) == "" && !dberr.Connecting(err) { // a connection broke: why, the next one tells
		o.pool.Reset()
		if again := o.pool.Ping(ctx); again != nil {
			err = again
		}
	}
	if ctx.Err() == nil {
		o.health.Away(err)
	}
}

func (o *owner) poll(ctx context.Context) error {
	if err := o.pauseRequested(ctx); err != nil {
		return err
	}
	began := time.Now()
	p, err := o.readPeers(ctx)
	if err != nil {
		return err
	}
	if _, alive := p.counters[o.incarnation]; !alive {
		return store.ErrLost
	}
	if len(p.counters) == 1 {
		o.polls.confirm(began, o.config.Lease)
	}
	if err := o.watchPeers(ctx, p); err != nil {
		return err
	}
	o.wakeSure()
	standings, err := o.readStandings(ctx)
	if err != nil {
		return err
	}
	if err := o.readDirectory(ctx, p); err != nil {
		return err
	}
	o.polls.at.Store(time.Now().UnixNano())
	o.health.Back()
	o.health.Works(health.CannotPoll)
	o.health.Keep(func(name string) bool {
		return o.deliversAny(standings, name)
	})
	if sick := o.health.Any(); sick || o.sick {
		o.sick = sick
		for _, r := range o.running() {
			r.Life.Wake() // it may be its trouble
		}
	}
	o.stopChanged(ctx, standings)
	o.tellOf(p, standings)
	o.reviewUnable(standings)
	o.tellMine(p)
	shares := p.shares(o.expected(standings))
	o.share(shares)
	acquired := o.acquire(ctx, o.mineToTake(p, standings, shares))
	o.tellMine(p) // some could not be started
	o.judgeStranded(p, standings)
	return errors.Join(acquired, o.letGo(ctx))
}

// mineToTake are the free cursors that this relay should have, and in any case those that are ours without being delivered, because their
// start has failed: nobody else may take them.
func (o *owner) mineToTake(p peers, standings map[subscription.Part]store.Standing, shares map[subscription.Part]string) (free []store.Standing) {
	for part, at := range standings {
		if !at.Active || o.has(part) || p.lacks(o.incarnation, at) {
			continue
		}
		to, moves := shares[part]
		should := moves && to == o.incarnation || !moves && o.again[part]
		if at.OwnedBy(o.incarnation) || should && (at.Owner == nil || !has(p.counters, *at.Owner)) {
			free = append(free, at)
		}
	}
	return free
}

// acquire takes cursors over and starts their runners.
func (o *owner) acquire(ctx context.Context, free []store.Standing) error {
	if len(free) == 0 {
		return nil
	}
	// Not cut off by a stop: what the server carries out after the cursors were released would belong to nobody that lives.
	taking, cancel := context.WithTimeout(o.life, o.config.DrainTimeout+time.Second)
	defer cancel()
	cursors, err := o.takeOverAll(taking, free)
	if err != nil {
		return err
	}
	var starts errgroup.Group
	starts.SetLimit(4)
	for _, c := range cursors {
		starts.Go(func() error { return o.startRunner(ctx, c) })
	}
	return starts.Wait()
}

// startRunner delivers a part, of which these are the cursors by class.
func (o *owner) startRunner(ctx context.Context, cursors []store.Cursor) error {
	c := cursors[0]
	r, err := o.newRunner(ctx, c, cursors)
	if o.cannotStart(c, err) {
		return nil
	}
	if store.OfOneRow(err) {
		o.requestPause(c.Sub.Name, "it cannot be started: "+err.Error())
		return nil
	}
	if err != nil {
		o.health.Failed(health.CannotStart, err, c.Sub.Name) // one that cannot start delays no other: the next poll tries again
		if isFatal(err) {
			return fmt.Errorf("start subscription %s: %w", c.Sub.Name, err)
		}
		return o.noteTrouble(ctx, c.Sub.Name)
	}
	o.health.Works(health.CannotStart, c.Sub.Name)
	if o.resumed[c.Sub.Name] {
		o.log.Info("subscription resumed", "subscription", c.Sub.Name)
	}
	o.log.Info("delivering", "subscription", c.Sub.Name, "topics", c.Sub.Topics)
	o.track(r)
	return nil
}

// cannotStart deals with an error that is the subscription's, or this relay's with this subscription.
func (o *owner) cannotStart(c store.Cursor, err error) bool {
	if bad, ok := errors.AsType[*badSubscription](err); ok {
		o.requestPause(c.Sub.Name, bad.Error())
		return true
	}
	lacks, ok := errors.AsType[*lacksError](err)
	if ok {
		o.leaveToOthers(c.Sub.Name, c.Version, lacks)
	}
	return ok
}

// noteTrouble tells why a cursor of ours, which has no runner to tell it, stands still.
func (o *owner) noteTrouble(ctx context.Context, name string) error {
	trouble := o.health.Trouble(name)
	if trouble == "" {
		return nil
	}
	return o.db().NoteTrouble(ctx, name, trouble)
}

// pauseRequested records why subscriptions cannot go on, as far as they are still ours.
func (o *owner) pauseRequested(ctx context.Context) error {
	for name, reason := range o.pauseRequests() {
		version, err := o.db().Pause(ctx, name, reason, !o.hasAny(name)) // else its runner releases the cursor when it has stopped
		if store.OfOneRow(err) {
			o.log.Error("subscription not paused", "subscription", name, "because", reason, "error", err)
			o.pauseDone(name)
			continue
		}
		if err != nil {
			return err
		}
		if version != 0 { // else it is another relay's by now
			o.ownPauses[name] = version
			o.log.Error("subscription paused", "subscription", name, "because", reason)
		}
		o.pauseDone(name)
	}
	return nil
}
