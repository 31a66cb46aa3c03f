package schedule

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
)

const (
	// glance is the longest time between two looks: so soon a schedule is noticed that was put, changed or resumed.
	glance = time.Second
	// again is when to look again for what is due and was left: somebody has locked it, or another relay fires it at this moment.
	again = 200 * time.Millisecond
	// page is how many schedules are fired by one statement.
	page = 500
)

// Store is where schedules are: store.Schedules.
type Store interface {
	Earliest(ctx context.Context) (wait time.Duration, some bool, err error)
	Due(ctx context.Context, r store.DueRange, most int) (now time.Time, list []store.Schedule, err error)
	Fire(ctx context.Context, list []store.Firing) (moved, fired int, err error)
}

var _ Store = store.Schedules{}

// Scheduler fires schedules. Its zero value lacks a store, a log, counters and somebody to tell of errors.
type Scheduler struct {
	Store  Store
	Log    *slog.Logger
	Fired  prometheus.Counter
	Missed prometheus.Counter
	Report func(error) // what came of a step; nil is told, too

	known map[[2]string]expression // what has been read, so that it is read once
}

// Run fires what is due until ctx is cancelled.
func (s *Scheduler) Run(ctx context.Context) error {
	for {
		wait, err := s.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.Report(err)
		if !async.Sleep(ctx, wait) {
			return nil
		}
	}
}

// step fires everything that is due, and returns how long there is nothing to do.
func (s *Scheduler) step(ctx context.Context) (time.Duration, error) {
	wait, some, err := s.Store.Earliest(ctx)
	switch {
	case err != nil || !some:
		return glance, err
	case wait > 0:
		return min(wait, glance), nil
	}
	total := 0
	for _, troubled := range []bool{false, true} {
		moved, err := s.fireDue(ctx, troubled)
		total += moved
		if err != nil {
			return glance, err
		}
	}
	if total == 0 {
		return again, nil
	}
	return 0, nil
}

// fireDue fires what is due, page by page, either what is in trouble or the rest. Where another relay fires the same page it goes on from the other
// end: two that follow each other would read all pages twice.
func (s *Scheduler) fireDue(ctx context.Context, troubled bool) (total int, err error) {
	for r := store.AllDue(troubled); ; {
		now, due, err := s.Store.Due(ctx, r, page)
		if err != nil {
			return total, err
		}
		list := make([]store.Firing, len(due))
		for i, one := range due {
			list[i] = decide(one, now, s.read)
		}
		moved, err := s.fire(ctx, list)
		total += moved
		if err != nil || len(due) < page {
			return total, err
		}
		last := store.DuePlace{Due: due[len(due)-1].Due, Name: due[len(due)-1].Name}
		if r.Backwards {
			r.To = last
		} else {
			r.From = last
		}
		r.Backwards = r.Backwards != (moved < len(list))
	}
}

// fire halves what the server refuses for some row's sake, until that row is alone.
func (s *Scheduler) fire(ctx context.Context, list []store.Firing) (total int, err error) {
	if len(list) == 0 {
		return 0, nil
	}
	moved, fired, err := s.Store.Fire(ctx, list)
	s.Fired.Add(float64(fired))
	switch {
	case err == nil:
		s.tell(list, moved)
		return moved, nil
	case !store.OfOneRow(err):
		return 0, err
	case len(list) == 1 && list[0].Trouble == "":
		return s.fire(ctx, []store.Firing{{Schedule: list[0].Schedule, Then: list[0].Next, Trouble: err.Error()}})
	case len(list) == 1:
		return 0, err
	}
	for _, half := range [][]store.Firing{list[:len(list)/2], list[len(list)/2:]} {
		moved, err := s.fire(ctx, half)
		total += moved
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// tell logs what has come into trouble, and what is not made up for, a line for all of a statement.
func (s *Scheduler) tell(list []store.Firing, moved int) {
	if moved == 0 {
		return // another relay tells
	}
	var troubled, lost []any
	for _, f := range list {
		if f.Trouble != "" && f.Trouble != f.Schedule.Trouble {
			troubled = append(troubled, slog.Group(f.Name, "version", f.Version, "trouble", f.Trouble))
		}
		if f.Lost {
			lost = append(lost, slog.String(f.Name, f.Missed))
		}
	}
	const most = 10
	if len(troubled) > 0 {
		s.Log.Warn("schedules cannot be fired", "schedules", len(troubled), slog.Group("first", troubled[:min(len(troubled), most)]...))
	}
	if len(lost) > 0 {
		s.Missed.Add(float64(len(lost)))
		s.Log.Warn("schedules were not fired in time, and missed runs are not all made up for", "schedules", len(lost),
			slog.Group("first", lost[:min(len(lost), most)]...))
	}
}

// read reads what it has not read yet.
func (s *Scheduler) read(expr, zone string) (expression, error) {
	key := [2]string{expr, zone}
	if e, ok := s.known[key]; ok {
		return e, nil
	}
	e, err := read(expr, zone)
	if err != nil {
		return e, err
	}
	if len(s.known) >= 10_000 || s.known == nil {
		s.known = make(map[[2]string]expression)
	}
	s.known[key] = e
	return e, nil
}
