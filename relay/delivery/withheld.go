package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/store"
)

// notRead draws the consequences for the message alone: its destination has not been asked.
func (r *Runner) notRead(t *task, u *store.UnreadError, now time.Time) {
	t.in.dirty = true
	t.attempts++
	if t.entry != nil {
		t.entry.busy = false
	}
	if u.Passes {
		r.retry(t, u.Reason, 0, now)
		return
	}
	t.bare = true
	r.bury(t, u.Reason)
}

// deliverWithheld reads the lane's only message and delivers it.
func (r *Runner) deliverWithheld(l *lane) {
	t := l.batch[0]
	b, err := r.readWanted(r.Life.deliver, r.withheldOf(t, l.doubted))
	if err != nil {
		l.outcomes[0] = err
		return
	}
	if m, err := r.outgoing(b.row); err != nil {
		l.outcomes[0] = err
	} else {
		l.deliveries[0].Message = m
		r.Env.Sink.Deliver(r.Life.deliver, l.deliveries, l.outcomes)
		l.deliveries[0].Message = &t.row.Message
	}
	r.Env.Passes.Shelf.put(b)
}

// withheld is a message that is to be read by itself.
type withheld struct {
	mark  shelfMark
	claim claim
	row   store.Wanted
}

func (r *Runner) withheldOf(t *task, doubted bool) withheld {
	w := withheld{mark: shelfMark{id: t.row.ID, created: t.row.CreatedAt.UnixMicro()}, claim: claim{tenant: &r.lanes.tenant, doubted: doubted}}
	w.row = store.Wanted{Part: r.Part(), Epoch: r.Env.Cursor.Epoch, Row: t.row, Parked: t.entry != nil, Bound: r.Env.Passes.Largest}
	if w.row.Parked {
		w.mark.parked = r.Env.Sub.Name
	}
	return w
}

// readWanted reads a message and asks the filter about it.
func (r *Runner) readWanted(ctx context.Context, w withheld) (*book, error) {
	b, err := r.readWithheld(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := r.judgeRead(b.row); err != nil {
		r.Env.Passes.Shelf.put(b)
		return nil, err
	}
	return b, nil
}

// readWithheld retries until there is an answer or it is given up.
func (r *Runner) readWithheld(ctx context.Context, w withheld) (*book, error) {
	mark, row := w.mark, w.row.Row
	size := row.Bytes
	if size == 0 {
		size = guess
	}
	retry := async.ReconnectBackoff()
	for {
		b, err := r.Env.Passes.Shelf.take(ctx, mark, w.claim, size, func(most int64) (*message.Row, error) {
			wanted := w.row
			wanted.Most = most
			whole, err := r.Env.Passes.readMessage(ctx, wanted)
			return whole, r.Env.Passes.Losses.judge(mark, err)
		})
		switch _, final := errors.AsType[*store.UnreadError](err); {
		case err == nil || final:
			r.Env.Health.Works(health.CannotReadMessage, r.Env.Sub.Name)
			return b, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		r.Env.Health.Failed(health.CannotReadMessage, fmt.Errorf("message %d: %w", row.ID, err), r.Env.Sub.Name)
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil, ctx.Err()
		}
	}
}

// Losses counts connections that were lost while a message was read: the server may not survive that. It outlives generations.
type Losses struct {
	mu sync.Mutex
	of map[shelfMark]int
}

// mostLosses in a row, and the message waits for its next attempt instead of being read over and over.
const mostLosses = 3

// judge makes what has gone wrong too often, or took too long, a matter of the message.
func (l *Losses) judge(mark shelfMark, err error) error {
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.of, mark)
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case answered && (pgErr.Code == "57014" || pgErr.Code == "25P04"): // query_canceled, transaction_timeout
		return &store.UnreadError{Reason: "reading the message was cut off: " + pgErr.Message, Passes: true}
	case answered && pgErr.Severity != "FATAL" || errors.Is(err, store.ErrLost) || !errors.Is(err, store.ErrRead):
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil || len(l.of) >= message.MaxTopics {
		l.of = make(map[shelfMark]int)
	}
	if l.of[mark]++; l.of[mark] < mostLosses {
		return err
	}
	delete(l.of, mark)
	return &store.UnreadError{Reason: fmt.Sprintf("the connection broke %d times while the message was read: %s", mostLosses, err), Passes: true}
}
