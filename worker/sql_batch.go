package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// batch is a transaction with the jobs that were taken in it.
type batch struct {
	*sqlRun
	tx      pgx.Tx
	jobs    []*Job
	skip    map[int64]bool // parked behind another of their key
	careful bool           // each job gets a savepoint of its own
	open    []*Job         // done since the savepoint
}

// transaction takes jobs, does them, and commits. It returns how many it took.
func (r *sqlRun) transaction(ctx, handlers context.Context) (n int, err error) {
	turn, err := r.turn(ctx)
	if err != nil {
		return 0, err
	}
	defer turn.end()
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("get a connection: %w", err)
	}
	defer conn.Release()
	r.enter(conn.Conn(), true)
	defer r.enter(conn.Conn(), false)
	limited, cancel := context.WithTimeoutCause(handlers, r.cfg.Limit, ErrLost)
	defer cancel()
	tx, err := conn.BeginTx(limited, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}) // whatever the role's defaults are
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	b := &batch{sqlRun: r, tx: tx, skip: map[int64]bool{}}
	err = b.take(limited)
	if err == nil {
		r.worked.Store(true)
		if len(b.jobs) > 0 {
			tell(r.wake) // other shards may have some, too, and these jobs may take their time
			turn.taken(len(b.jobs))
		}
		err = b.do(ctx, limited)
	}
	if err == nil {
		if err = tx.Commit(limited); err != nil {
			err = fmt.Errorf("commit %d jobs: %w", len(b.jobs), err)
		}
	}
	if err != nil {
		undo, done := context.WithTimeout(context.WithoutCancel(handlers), time.Second)
		defer done()
		if tx.Rollback(undo) != nil {
			_ = conn.Conn().Close(undo) // which undoes it, too
		}
	}
	return len(b.jobs), err
}

func (r *sqlRun) enter(conn *pgx.Conn, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[*pgconn.PgConn]bool{}
	}
	if open {
		r.open[conn.PgConn()] = true
	} else {
		delete(r.open, conn.PgConn())
	}
}

const takeSQL = `SELECT id, topic, coalesce(key, ''), payload, body, headers, created_at, priority, attempt FROM postrider.take($1, $2, $3)`

// take takes from the first subscription that has something.
func (b *batch) take(ctx context.Context) error {
	for _, subscription := range b.subscriptions {
		rows, err := b.tx.Query(ctx, takeSQL, subscription, b.cfg.Batch, b.cfg.Limit)
		if err != nil {
			return fmt.Errorf("take from %s: %w", subscription, err)
		}
		for rows.Next() {
			job := &Job{Subscription: subscription}
			var payload, headers []byte
			if err := rows.Scan(&job.ID, &job.Topic, &job.Key, &payload, &job.Body, &headers, &job.CreatedAt, &job.Priority, &job.Attempt); err != nil {
				rows.Close()
				return fmt.Errorf("read a job of %s: %w", subscription, err)
			}
			job.Payload = payload
			if headers != nil {
				if err := json.Unmarshal(headers, &job.Headers); err != nil {
					rows.Close()
					return fmt.Errorf("read the headers of job %d of %s: %w", job.ID, subscription, err)
				}
			}
			b.jobs = append(b.jobs, job)
		}
		if err := rows.Err(); err != nil {
			return fmt.Errorf("take from %s: %w", subscription, err)
		}
		if len(b.jobs) > 0 {
			return nil
		}
	}
	return nil
}

const (
	mark  = "SAVEPOINT postrider_job"
	undo  = "ROLLBACK TO SAVEPOINT postrider_job"
	again = "RELEASE SAVEPOINT postrider_job; " + mark
)

// carefully is for how many transactions each job has a savepoint of its own once one has failed, although handlers may be called again: a savepoint
// costs PostgreSQL as much as a small job.
const carefully = 20

// do does the jobs one after the other. Once ctx is cancelled it gives back what has not begun.
func (b *batch) do(ctx, limited context.Context) error {
	if len(b.jobs) == 0 {
		return nil
	}
	if err := b.exec(limited, mark); err != nil {
		return err
	}
	b.careful = !b.cfg.Repeatable || b.wary.Add(-1) >= 0
	return b.each(ctx, limited, b.jobs)
}

func (b *batch) each(ctx, limited context.Context, jobs []*Job) error {
	for _, job := range jobs {
		if b.skip[job.ID] {
			continue
		}
		out := Outcome{Kind: kindRelease}
		if ctx.Err() == nil {
			out = b.run(limited, job)
		} else if err := b.keep(limited); err != nil {
			return err
		}
		if err := b.settle(ctx, limited, job, out); err != nil {
			return fmt.Errorf("settle job %d of %s: %w", job.ID, job.Subscription, err)
		}
	}
	return nil
}

// keep puts what is done behind the savepoint.
func (b *batch) keep(ctx context.Context) error {
	if len(b.open) == 0 {
		return nil
	}
	b.open = nil
	return b.exec(ctx, again)
}

// back undoes a job, and does again what goes with it.
func (b *batch) back(ctx, limited context.Context) error {
	if err := b.exec(limited, undo); err != nil {
		return err
	}
	b.careful = true
	b.wary.Store(carefully)
	jobs := b.open
	b.open = nil
	return b.each(ctx, limited, jobs)
}

// run lets the handler do a job. It has a goroutine of its own, since it may end it.
func (b *batch) run(ctx context.Context, job *Job) (out Outcome) {
	ended := make(chan struct{})
	go b.work(ctx, b.tx, job, func(o Outcome) {
		out = o
		close(ended)
	})
	<-ended
	if out.Kind == kindDone && b.tx.Conn().PgConn().TxStatus() == 'E' {
		return Outcome{Kind: kindRetry, Reason: "the handler returned nil although a statement in its transaction had failed"}
	}
	return out
}
