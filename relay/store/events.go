package store

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/dbconn"
)

// Events are what operators are to know, which waits for messages to be made of it.
type Events struct{ Pool *dbconn.Pool }

// Tell makes messages of events. It commits as the server is set to: what is told from here is a message like any other.
func (e Events) Tell(ctx context.Context) error {
	// By itself, without a transaction around it: this is asked every other second, by relays that have nothing to do.
	_, err := e.Pool.Exec(ctx, "SELECT postrider.tell_events()")
	if err != nil {
		return fmt.Errorf("make messages of events: %w", err)
	}
	return nil
}

// LostWorker is how often a worker was lost, with how many jobs of a subscription.
type LostWorker struct {
	Subscription, Worker, Reason string
	Times, Jobs                  int
}

// NoteLost writes down that workers were lost, where operators have asked for that. It commits as the server is set to.
func (e Events) NoteLost(ctx context.Context, list []LostWorker) error {
	var (
		names         []string
		workers, whys []*string
		times, jobs   []int
		encoding      = e.Pool.Encoding()
	)
	for _, l := range list {
		names, times, jobs = append(names, l.Subscription), append(times, l.Times), append(jobs, l.Jobs)
		workers, whys = append(workers, orNull(encoding.Storable(l.Worker))), append(whys, orNull(encoding.Storable(l.Reason)))
	}
	if _, err := e.Pool.Exec(ctx, "SELECT postrider.note_lost_workers($1, $2, $3, $4, $5)", names, workers, whys, times, jobs); err != nil {
		return fmt.Errorf("note lost workers: %w", err)
	}
	return nil
}
