package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SQL takes jobs of sql: subscriptions in transactions of the pool's database. The pool's role must be one that may, see postrider grants
// --worker. Each of Config.Concurrency transactions has a connection of the pool, is READ COMMITTED and may write, whatever the role has as its default.
//
// Each job of a transaction has a savepoint: one that fails undoes its own writes alone. See Config.Repeatable for what costs less.
//
// A context that is cancelled during a statement closes the connection, as pgx does it by default: then the whole transaction is undone, and its
// jobs come again.
func SQL(pool *pgxpool.Pool) Source { return &sqlSource{pool} }

type sqlSource struct{ pool *pgxpool.Pool }

func (*sqlSource) concurrency() int { return 4 }

func (s *sqlSource) run(ctx context.Context, w *Worker) error {
	if s.pool == nil {
		return errors.New("worker: the pool of SQL is nil: give one, of pgxpool.New")
	}
	r := &sqlRun{Worker: w, pool: s.pool, poller: make(chan struct{}, 1), wake: make(chan struct{}, 1), turns: make(chan struct{}, turns), notified: make(chan struct{}, 1)}
	return r.run(ctx)
}

// sqlRun is one run of a worker with SQL: Concurrency lanes, each with one transaction at a time. While there is nothing to do one lane polls for all.
type sqlRun struct {
	*Worker
	pool     *pgxpool.Pool
	poller   chan struct{} // has an element while a lane waits to poll
	wake     chan struct{} // a lane has found jobs: other shards may have some, too
	turns    chan struct{} // has an element for each turn that is taken
	notified chan struct{}
	worked   atomic.Bool  // a take has gone well
	wary     atomic.Int64 // for how many transactions each job has a savepoint of its own

	mu   sync.Mutex
	open map[*pgconn.PgConn]bool // connections of transactions
}

func (r *sqlRun) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	handlers, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(ErrShutdown)
	var lanes, listener sync.WaitGroup
	for range r.cfg.Concurrency {
		lanes.Go(func() {
			if err := r.lane(ctx, handlers); err != nil {
				stop(err)
			}
		})
	}
	if r.cfg.Listen {
		listener.Go(func() { r.listen(ctx) })
	}
	left := r.drain(ctx, &lanes, abandon)
	stop(nil)
	listener.Wait()
	if _, permanent := errors.AsType[*permanentError](context.Cause(ctx)); permanent {
		return context.Cause(ctx)
	}
	if left > 0 {
		return fmt.Errorf("worker: %d handlers went on after their context was cancelled; their transactions were undone", left)
	}
	return nil
}

// drain waits for the lanes, from the end of ctx on not for ever, and returns how many do not end.
func (r *sqlRun) drain(ctx context.Context, lanes *sync.WaitGroup, abandon context.CancelCauseFunc) int {
	ended := make(chan struct{})
	go func() { lanes.Wait(); close(ended) }()
	select {
	case <-ended:
		return 0
	case <-ctx.Done():
	}
	for _, step := range []struct {
		patience time.Duration
		then     func()
	}{
		{r.cfg.Drain, func() { abandon(ErrShutdown) }},
		{afterCancel, r.cutOff},
	} {
		select {
		case <-ended:
			return 0
		case <-time.After(step.patience):
			step.then()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// cutOff closes the connections of transactions whose handlers do not end, so that others get their jobs.
func (r *sqlRun) cutOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		_ = conn.Conn().Close() // its transaction is over either way
	}
}

// permanentError is what no time mends.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// lane does one transaction after the other until ctx is cancelled. An error is a permanent one.
func (r *sqlRun) lane(ctx, handlers context.Context) error {
	wait := retryFirst
	for ctx.Err() == nil {
		n, err := r.transaction(ctx, handlers)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if !r.worked.Load() && refusal(err) {
				return &permanentError{err}
			}
			r.cfg.Logger.Warn("worker: a transaction of jobs failed, will try again", "worker", r.cfg.Name, "error", err, "in", wait)
			sleep(ctx, wait)
			wait = later(wait)
		case n > 0:
			wait = retryFirst
		default:
			wait = retryFirst
			r.idle(ctx)
		}
	}
	return nil
}

// refusal reports whether PostgreSQL refuses what is asked for, whenever it is asked.
func refusal(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "22023", "42501", "42883", "3F000": // an argument, a privilege, no such function, no such schema
		return true
	}
	return false
}

// idle waits until it is worth to look again.
func (r *sqlRun) idle(ctx context.Context) {
	select {
	case r.poller <- struct{}{}:
		defer func() { <-r.poller }()
	case <-r.wake:
		return
	case <-ctx.Done():
		return
	}
	timer := time.NewTimer(r.cfg.Poll)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.wake:
	case <-r.notified:
	case <-ctx.Done():
	}
}

// tell puts an element into a channel that has room for one.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
