package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/wal"
)

const (
	budgetEvery = 2 * time.Second // between looks at how much WAL the slot holds back
	freeSlots   = 2               // slots and senders that must be free: the last ones belong to others
	slotsRetry  = 15 * time.Second
)

// Streamer keeps a stream running while there are live runners and the server can afford it. Ticks from the table go on
// meanwhile, whatever happens here.
type Streamer struct {
	Feed      *Feed
	Stream    wal.Stream
	Slots     Slots
	WALBudget int64 // bytes of the log that the slot may hold back

	cooldown time.Duration // how long to read the table after the stream has not kept up
}

// Slots is what the server says of its replication slots, and of what they carry.
type Slots interface {
	// Free returns how many slots and senders are to spare.
	Free(ctx context.Context) (slots, senders int, err error)
	// HoldsBack returns the bytes of the log that the server keeps for a slot, 0 if there is none of the name.
	HoldsBack(ctx context.Context, slot string) (int64, error)
	// Snapshot is the present one.
	Snapshot(ctx context.Context) (snapshot.Snapshot, error)
	// Largest names the largest message of the transactions from one on, without reading it.
	Largest(ctx context.Context, from uint64) (string, error)
}

// errOutrun says that the producers are faster than the stream.
var errOutrun = errors.New("the producers outrun the stream")

// errOverBudget says that an old transaction makes the slot hold back too much WAL.
var errOverBudget = errors.New("the slot holds back too much WAL")

// Run keeps the stream running until ctx is cancelled.
func (s *Streamer) Run(ctx context.Context) error {
	retry := async.ReconnectBackoff()
	for s.awaitActive(ctx) {
		started := time.Now()
		err := s.runOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			continue
		}
		if time.Since(started) > time.Minute {
			retry.Reset()
		}
		wait := retry.NextBackOff()
		if errors.Is(err, errNoSlots) {
			wait = slotsRetry
		}
		s.Feed.config.Report(Streaming, err)
		if !async.Sleep(ctx, wait) {
			return nil
		}
	}
	return nil
}

// awaitActive returns true when there are live runners, false when ctx is cancelled.
func (s *Streamer) awaitActive(ctx context.Context) bool {
	for !s.Feed.Active.Load() {
		select {
		case <-ctx.Done():
			return false
		case <-s.Feed.activated:
		}
	}
	return ctx.Err() == nil
}

var errNoSlots = errors.New("no replication slot or WAL sender to spare: raise max_replication_slots and max_wal_senders")

func (s *Streamer) runOnce(ctx context.Context) error {
	if err := s.checkFree(ctx); err != nil {
		return err
	}
	streamCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	select {
	case <-s.Feed.outrun: // of the last one
	default:
	}
	started, since := time.Now(), s.Feed.Closed().Snapshot
	s.Stream.Following = func() { s.Feed.config.Report(Streaming, nil) }
	go func() { ended <- s.Stream.Run(streamCtx) }()
	err := s.watch(streamCtx, ended, cancel)
	switch {
	case errors.Is(err, errOverBudget):
		s.Feed.config.Log.Warn("stream given up until older transactions have ended", "wal_budget", s.WALBudget)
		return s.awaitOldTransactions(ctx)
	case store.Unreadable(err):
		s.cooldown = nextCooldown(s.cooldown, time.Since(started))
		s.Feed.config.Log.Warn("stream given up for a while: it cannot carry a message; ticks read the table", "message", s.suspect(ctx, since), "error", err, "for", s.cooldown)
		async.Sleep(ctx, s.cooldown)
		return nil
	case errors.Is(err, errOutrun):
		s.cooldown = nextCooldown(s.cooldown, time.Since(started))
		s.Feed.config.Log.Info("stream given up for a while: reading the table costs less and is as fast", "for_at_most", s.cooldown)
		return s.awaitLull(ctx)
	}
	return err
}

// suspect names the largest message that the stream may have met.
func (s *Streamer) suspect(ctx context.Context, since snapshot.Snapshot) string {
	which, err := s.Slots.Largest(ctx, max(since.Xmin(), s.Stream.Backlog.Received.Load()))
	if err != nil {
		return "unknown: " + err.Error()
	}
	return which
}

// awaitLull waits until few transactions are left for the stream to carry, but not too long: there may be more time for it then.
func (s *Streamer) awaitLull(ctx context.Context) error {
	ticker := time.NewTicker(lullEvery)
	defer ticker.Stop()
	over := time.NewTimer(s.cooldown)
	defer over.Stop()
	l := lull{busy: s.Feed.config.BusyRate * 2 / 3, n: s.Feed.fromTable.Load(), at: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case <-ticker.C:
		}
		if l.look(time.Now(), s.Feed.fromTable.Load()) {
			return nil
		}
	}
}

func (s *Streamer) checkFree(ctx context.Context) error {
	slots, senders, err := s.Slots.Free(ctx)
	if err != nil {
		return fmt.Errorf("stream: count free slots: %w", err)
	}
	if slots < freeSlots || senders < freeSlots {
		return errNoSlots
	}
	return nil
}

// watch waits for the stream to end and ends it when nobody is live any more or the slot gets too expensive.
func (s *Streamer) watch(ctx context.Context, ended <-chan error, cancel context.CancelCauseFunc) error {
	defer s.Feed.held.Store(0)
	ticker := time.NewTicker(budgetEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-s.Feed.outrun:
			cancel(errOutrun)
			<-ended
			return errOutrun
		case <-ticker.C:
		}
		var reason error
		if s.Feed.Active.Load() {
			if over, err := s.overBudget(ctx); err != nil || !over {
				continue // a failing connection shows in the stream itself
			}
			reason = errOverBudget
		}
		cancel(reason)
		<-ended
		return reason
	}
}

func (s *Streamer) overBudget(ctx context.Context) (bool, error) {
	bytes, err := s.Slots.HoldsBack(ctx, s.Stream.Slot)
	s.Feed.held.Store(bytes)
	return bytes > s.WALBudget, err
}

// awaitOldTransactions waits until every transaction that runs now has ended.
func (s *Streamer) awaitOldTransactions(ctx context.Context) error {
	then, err := s.Slots.Snapshot(ctx)
	for err == nil {
		var now snapshot.Snapshot
		if now, err = s.Slots.Snapshot(ctx); err == nil && now.Xmin() >= then.Xmax {
			return nil
		}
		if err == nil && !async.Sleep(ctx, budgetEvery) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("stream: %w", err)
}
