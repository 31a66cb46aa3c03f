package worker

import (
	"context"
	"sync"
	"time"
)

const (
	turns = 2
	// quick is how long jobs may take without others getting their turn, and look a look: one that lasts may be at a connection that hangs.
	quick = 2 * time.Millisecond
	look  = 100 * time.Millisecond
)

// turn is what a lane needs to look for jobs. There are fewer than lanes: where little comes at a time and is done at once, lanes that look at the
// same time share it out among them, and each look costs PostgreSQL as much as one that finds it all. A lane whose batch is full, or whose look or
// jobs take their time, gives its turn away.
type turn struct {
	run  *sqlRun
	once sync.Once
	slow *time.Timer
}

func (r *sqlRun) turn(ctx context.Context) (*turn, error) {
	select {
	case r.turns <- struct{}{}:
		t := &turn{run: r}
		t.slow = time.AfterFunc(look, t.give)
		return t, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// taken says how many jobs were found.
func (t *turn) taken(n int) {
	if n >= t.run.cfg.Batch {
		t.give()
		return
	}
	t.slow.Reset(quick)
}

func (t *turn) give() { t.once.Do(func() { <-t.run.turns }) }

func (t *turn) end() {
	t.slow.Stop()
	t.give()
}
