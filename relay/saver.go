package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// saver writes the progress of all runners, one statement at a time.
type saver struct {
	config      *Config
	pool        *dbconn.Pool
	log         *slog.Logger
	health      *health.Health
	metrics     *metrics.Metrics
	incarnation string
	urgent      chan struct{}
	lost        func(name string) // a cursor was refused

	saving chan struct{} // holds a value during a save: one at a time
	// Items whose rows somebody else had locked: they go first next time. Guarded by saving.
	busy map[subscription.Part]*delivery.SaveItem

	mu   sync.Mutex
	runs map[subscription.Part]*delivery.Runner
}

func (s *saver) add(r *delivery.Runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[r.Part()] = r
}

func (s *saver) remove(r *delivery.Runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs[r.Part()] == r {
		delete(s.runs, r.Part())
	}
}

// run saves at intervals, and at once where a key waits for its parked row.
func (s *saver) run(ctx context.Context) error {
	ticker := time.NewTicker(s.config.SaveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.urgent:
		case <-ticker.C:
		}
		if _, err := s.save(ctx, s.all(), false); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (s *saver) all() []*delivery.Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*delivery.Runner, 0, len(s.runs))
	for _, r := range s.runs {
		all = append(all, r)
	}
	return all
}

// save writes what the runners have to write, again and again until there is an answer or ctx ends. It returns how many cursors
// there were to write, and errLost if the relay's own row is gone.
func (s *saver) save(ctx context.Context, runners []*delivery.Runner, final bool) (int, error) {
	select {
	case s.saving <- struct{}{}:
		defer func() { <-s.saving }()
	case <-ctx.Done():
		return 0, fmt.Errorf("save progress: %w", ctx.Err())
	}
	items := s.collect(runners, final)
	if len(items) == 0 {
		return 0, nil
	}
	slices.SortFunc(items, func(a, b *delivery.SaveItem) int { return a.Part().Compare(b.Part()) })
	results, err := s.repeatUntilAnswered(ctx, items)
	if err != nil {
		return 0, err
	}
	for _, item := range items {
		s.settle(item, results[item.Part()])
	}
	return len(items), nil
}

// saveLast saves what the runner, which has come to rest, has to save. Its base may go on moving while others save: that is worth
// no further save.
func (s *saver) saveLast(ctx context.Context, r *delivery.Runner) error {
	busy, err := s.isBusy(ctx, r)
	for err == nil {
		old := busy // what is written first may be from before the runner came to rest
		var n int
		if n, err = s.save(ctx, []*delivery.Runner{r}, true); err != nil || n == 0 {
			return err
		}
		busy, err = s.isBusy(ctx, r)
		switch {
		case !busy && !old && !r.HasParked():
			return err
		case busy && !async.Sleep(ctx, busyRetry):
			return fmt.Errorf("save progress: the cursor is locked by another session: %w", ctx.Err())
		}
	}
	return err
}

// busyRetry is the wait before the last save of a cursor that somebody else has locked is tried again.
const busyRetry = 20 * time.Millisecond

func (s *saver) isBusy(ctx context.Context, r *delivery.Runner) (bool, error) {
	select {
	case s.saving <- struct{}{}:
		defer func() { <-s.saving }()
		for _, part := range r.Parts() {
			if s.busyItem(r, part) != nil {
				return true, nil
			}
		}
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("save progress: %w", ctx.Err())
	}
}

// busyItem is the runner's item of a part that waits for its rows. Another runner of the part, which has ended, may have left one.
func (s *saver) busyItem(r *delivery.Runner, part subscription.Part) *delivery.SaveItem {
	if item := s.busy[part]; item != nil && item.Runner == r {
		return item
	}
	return nil
}

func (s *saver) collect(runners []*delivery.Runner, final bool) (items []*delivery.SaveItem) {
	maps.DeleteFunc(s.busy, func(_ subscription.Part, item *delivery.SaveItem) bool { return item.Runner.IsGone() })
	for _, r := range runners {
		for _, part := range r.Parts() {
			item := s.busyItem(r, part)
			if item == nil {
				item = r.Collect(part, time.Now(), final)
			}
			if item != nil {
				items = append(items, item)
			}
		}
	}
	return items
}

// saveResult is what became of an item.
type saveResult int

const (
	itemLocked saveResult = iota // its rows are locked: the same again next time
	itemSaved
	itemRefused // the cursor is not ours any more, or its history has changed
)

func (s *saver) settle(item *delivery.SaveItem, f saveResult) {
	r := item.Runner
	delete(s.busy, item.Part())
	switch f {
	case itemSaved:
		r.SavedNow(item)
	case itemRefused:
		r.Abandon()
		s.lost(r.Env.Sub.Name)
	case itemLocked:
		if !r.IsGone() {
			s.busy[item.Part()] = item
		}
	}
}

// repeatUntilAnswered repeats the same writes until they have an answer: they may have been carried out without one, and are idempotent. What a
// server that works does not carry out is asked of it in halves, down to single cursors: one that cannot be saved is tried again with
// the next save, and delays no other.
func (s *saver) repeatUntilAnswered(ctx context.Context, items []*delivery.SaveItem) (map[subscription.Part]saveResult, error) {
	retry := async.ReconnectBackoff()
	results := make(map[subscription.Part]saveResult, len(items))
	for most := len(items); len(items) > 0; {
		most = min(most, len(items))
		err := s.write(ctx, items[:most], results)
		switch {
		case err == nil:
			s.works(items[:most])
			items = items[most:]
			continue
		case errors.Is(err, store.ErrLost) || isFatal(err) || ctx.Err() != nil:
			return nil, err
		}
		s.metrics.Saves.WithLabelValues("error").Inc()
		if store.Unreadable(err) && copyCarefully(items[:most]) {
			s.log.Warn("progress not saved: a message cannot be copied; each is looked at now", "error", err)
			continue
		}
		switch {
		case dberr.Connecting(err):
		case most > 1:
			most = (most + 1) / 2
			continue
		case !dberr.Away(err):
			s.health.Failed(health.CannotSave, err, items[0].Runner.Env.Sub.Name)
			results[items[0].Part()] = itemLocked
			items = items[1:]
			continue
		}
		s.health.Failed(health.CannotSave, err)
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil, fmt.Errorf("save progress: %w", err)
		}
	}
	return results, nil
}

// works notes that items were saved.
func (s *saver) works(items []*delivery.SaveItem) {
	s.metrics.Saves.WithLabelValues("ok").Inc()
	s.health.Works(health.CannotSave)
	for _, item := range items {
		s.health.Works(health.CannotSave, item.Runner.Env.Sub.Name)
	}
}

// write saves the items once and adds what became of each to results.
func (s *saver) write(ctx context.Context, items []*delivery.SaveItem, results map[subscription.Part]saveResult) error {
	list := make([]store.Progress, len(items))
	for i, item := range items {
		list[i] = item.Progress()
	}
	saved, refused, err := store.Save(ctx, s.pool, s.incarnation, list)
	if err != nil {
		return err
	}
	for _, i := range refused {
		results[list[i].Part] = itemRefused
	}
	for _, i := range saved {
		results[list[i].Part] = itemSaved
	}
	return nil
}

// copyCarefully makes the next attempt leave out what cannot be copied. It returns false if there is nothing to copy, or if the
// last attempt was made so.
func copyCarefully(items []*delivery.SaveItem) (changed bool) {
	for _, item := range items {
		for _, op := range item.Ops {
			if op.Insert != nil && op.Copies() == store.CopyThere {
				op.Careful, changed = true, true
			}
		}
	}
	return changed
}
