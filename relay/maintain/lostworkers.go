package maintain

import (
	"context"
	"log/slog"
	"sync"

	"github.com/postrider/postrider/relay/store"
)

// mostLost bounds how many workers are told of by name at once, and with that what is remembered while the database is away.
const mostLost = 1000

// LostWorkers are workers that were lost with jobs, until that is written down for operators.
type LostWorkers struct {
	mu   sync.Mutex
	list map[lostWorker]store.LostWorker
}

type lostWorker struct{ subscription, worker string }

// Add notes that a worker was lost with so many jobs, by subscription. It never waits.
func (l *LostWorkers) Add(worker, reason string, jobs map[string]int) {
	for name, n := range jobs {
		l.add(store.LostWorker{Subscription: name, Worker: worker, Reason: reason, Times: 1, Jobs: n})
	}
}

func (l *LostWorkers) add(lost store.LostWorker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		l.list = make(map[lostWorker]store.LostWorker)
	}
	id := lostWorker{lost.Subscription, lost.Worker}
	if _, known := l.list[id]; !known && len(l.list) >= mostLost {
		id.worker, lost.Worker = "", ""
	}
	known := l.list[id]
	lost.Times, lost.Jobs = lost.Times+known.Times, lost.Jobs+known.Jobs
	l.list[id] = lost
}

// lostNoter is who writes them down: store.Events.
type lostNoter interface {
	NoteLost(ctx context.Context, list []store.LostWorker) error
}

// Tell writes them down; what cannot be is kept for the next time.
func (l *LostWorkers) Tell(ctx context.Context, to lostNoter) error {
	l.mu.Lock()
	list := make([]store.LostWorker, 0, len(l.list))
	for _, lost := range l.list {
		list = append(list, lost)
	}
	clear(l.list)
	l.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	err := to.NoteLost(ctx, list)
	if err != nil {
		for _, lost := range list {
			l.add(lost)
		}
	}
	return err
}

// Job is the writing down as a job.
func (l *LostWorkers) Job(to lostNoter, log *slog.Logger) Job {
	return Job{every: eventsEvery, turn: once(log, "operators are not told of lost workers", func(ctx context.Context) error { return l.Tell(ctx, to) })}
}
