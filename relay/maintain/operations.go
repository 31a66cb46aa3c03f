package maintain

import (
	"context"
	"log/slog"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/store"
)

const (
	operationsKept  = 7 * 24 * time.Hour     // after their end
	operationsEvery = 10 * time.Minute       // between looks for those to be removed
	operationsAgain = 250 * time.Millisecond // before another look at what somebody else is working on
)

// Operations works off, a chunk at a time, what is to be done to many messages: any relay, whichever has the time. How far it is stands in the table,
// written with what was done.
type Operations struct {
	Store store.Operations
	Relay string          // its name
	Asked <-chan struct{} // told when there are any
	Log   *slog.Logger
}

// Jobs are what is to be done for them.
func (o *Operations) Jobs() []Job {
	return []Job{
		{every: operationsAgain, turn: once(o.Log, "operations are not worked off", o.work)},
		{every: operationsEvery, turn: once(o.Log, "old operations not removed", func(ctx context.Context) error { return o.Store.Expire(ctx, operationsKept) })},
	}
}

func (o *Operations) work(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-o.Asked:
	}
	for {
		did, wait, more, err := o.Store.Work(ctx, o.Relay)
		if err != nil || !more {
			return err
		}
		if !did {
			wait = max(wait, operationsAgain)
		}
		if !async.Sleep(ctx, wait) {
			return nil
		}
	}
}
