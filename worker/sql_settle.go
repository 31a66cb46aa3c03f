package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settle keeps what a job has done, or undoes it and says what is to become of the job.
func (b *batch) settle(ctx, limited context.Context, job *Job, out Outcome) error {
	if cause := context.Cause(limited); cause != nil {
		return cause // all of it is undone
	}
	if out.Kind == kindDone {
		if err := b.keepResult(limited, job, out.Result); err != nil {
			return err
		}
		b.open = append(b.open, job)
		if b.careful && job != b.jobs[len(b.jobs)-1] { // COMMIT keeps the last one
			return b.keep(limited)
		}
		return nil
	}
	if err := b.back(ctx, limited); err != nil || b.skip[job.ID] {
		return err // one that went well before has failed now, and this one waits for it
	}
	return b.park(limited, job, out)
}

// park says what is to become of a job that is not done.
func (b *batch) park(ctx context.Context, job *Job, out Outcome) error {
	var after *time.Duration
	if out.After > 0 || out.Kind == kindSnooze {
		after = &out.After
	}
	var err error
	switch out.Kind {
	case kindRetry:
		err = b.call(ctx, "SELECT postrider.retry($1, $2, $3, $4)", job.Subscription, job.ID, out.Reason, after)
	case kindDead:
		err = b.call(ctx, "SELECT postrider.kill($1, $2, $3)", job.Subscription, job.ID, out.Reason)
	case kindSnooze:
		err = b.call(ctx, "SELECT postrider.snooze($1, $2, $3)", job.Subscription, job.ID, after)
	case kindRelease:
		err = b.call(ctx, "SELECT postrider.give_back($1, $2)", job.Subscription, job.ID)
	default:
		err = errors.New("it was lost")
	}
	if err != nil {
		return err
	}
	return b.exec(ctx, again)
}

// keepResult keeps what came of a job, if it has said so, with what it has done.
func (b *batch) keepResult(ctx context.Context, job *Job, result []byte) error {
	if result == nil {
		return nil
	}
	if _, err := b.tx.Exec(ctx, "SELECT postrider.keep_result($1, $2, $3, $4)", job.Subscription, job.ID, job.CreatedAt, string(result)); err != nil {
		return fmt.Errorf("keep the result: %w", err)
	}
	return nil
}

// call calls a function that parks a job. It returns the ids that wait behind it now.
func (b *batch) call(ctx context.Context, sql string, args ...any) error {
	var behind []int64
	if err := b.tx.QueryRow(ctx, sql, args...).Scan(&behind); err != nil {
		return err
	}
	for _, id := range behind {
		b.skip[id] = true
	}
	return nil
}

func (b *batch) exec(ctx context.Context, sql string) error {
	_, err := b.tx.Exec(ctx, sql)
	return err
}
