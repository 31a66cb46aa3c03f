package relay

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
func (r *runner) notRead(t *task, u *store.UnreadError, now time.Time) {
	r.intake.dirty = true
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
func (r *runner) deliverWithheld(l *lane) {
	t := l.batch[0]
	b, err := r.readWithheld(t, l.doubted)
	if err != nil {
		l.outcomes[0] = err
		return
	}
	l.deliveries[0].Message = &b.row.Message
	r.env.sink.Deliver(r.life.deliver, l.deliveries, l.outcomes)
	l.deliveries[0].Message = &t.row.Message
	r.env.passes.shelf.put(b)
}

// readWithheld retries until there is an answer or deliveries are given up.
func (r *runner) readWithheld(t *task, doubted bool) (*book, error) {
	mark := shelfMark{id: t.row.ID, created: t.row.CreatedAt.UnixMicro()}
	if t.entry != nil {
		mark.parked = r.env.sub.Name
	}
	size := t.row.Bytes
	if size == 0 {
		size = guess
	}
	retry := async.ReconnectBackoff()
	for {
		b, err := r.env.passes.shelf.take(r.life.deliver, mark, claim{tenant: &r.lanes.tenant, doubted: doubted}, size, func(most int64) (*message.Row, error) {
			whole, err := r.env.passes.readMessage(r.life.deliver, store.Wanted{Name: r.env.sub.Name, Epoch: r.env.cursor.epoch, Row: t.row, Parked: t.entry != nil, Most: most, Bound: r.env.passes.largest})
			return whole, r.env.passes.losses.judge(mark, err)
		})
		switch _, final := errors.AsType[*store.UnreadError](err); {
		case err == nil || final:
			r.env.health.Works(health.CannotReadMessage, r.env.sub.Name)
			return b, err
		case r.life.deliver.Err() != nil:
			return nil, r.life.deliver.Err()
		}
		r.env.health.Failed(health.CannotReadMessage, fmt.Errorf("message %d: %w", t.row.ID, err), r.env.sub.Name)
		if !async.Sleep(r.life.deliver, retry.NextBackOff()) {
			return nil, r.life.deliver.Err()
		}
	}
}

// losses counts connections that were lost while a message was read: the server may not survive that. It outlives generations.
type losses struct {
	mu sync.Mutex
	of map[shelfMark]int
}

// mostLosses in a row, and the message waits for its next attempt instead of being read over and over.
const mostLosses = 3

// judge makes what has gone wrong too often, or took too long, a matter of the message.
func (l *losses) judge(mark shelfMark, err error) error {
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
