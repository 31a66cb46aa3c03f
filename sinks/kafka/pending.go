package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/sinks"
)

// patience is how long an answer is waited for although no connection comes about.
const patience = time.Second

// record is a message in the client's hands, until its promise is kept.
type record struct {
	kgo.Record
	weight int64 // in the sink's memory

	first *round // that it was made in
	ended bool
	err   error
	id    string   // the message's, once it is left behind
	later []*round // that wait for it, too
}

// round is one wait for some records. Its maker has a place in it, so that it is not over while it is made.
type round struct {
	n   atomic.Int64 // that have not ended
	all chan struct{}
}

func newRound() *round {
	r := &round{all: make(chan struct{})}
	r.n.Store(1)
	return r
}

func (r *round) leave() {
	if r.n.Add(-1) == 0 {
		close(r.all)
	}
}

// left knows the records that a Deliver has left behind: they cannot be taken back from the client, since nobody knows whether brokers have
// stored them. When such a message is delivered again it is not sent again: its record is waited for.
type left struct {
	sync.Mutex
	behind map[string]*record // by message id; those that have ended were stored, and nobody knows it yet
	stored int                // how many these are
	some   atomic.Bool        // there are any behind
}

// mostStored bounds the confirmations that nobody has asked for.
const mostStored = 4096

// wait lets the round wait for a record that was left behind, if there is one of that message.
func (l *left) wait(id string, r *round) *record {
	if !l.some.Load() {
		return nil
	}
	l.Lock()
	defer l.Unlock()
	rec := l.behind[id]
	if rec != nil && !rec.ended {
		rec.later = append(rec.later, r)
		r.n.Add(1)
	}
	return rec
}

// end takes note of what came of a record.
func (l *left) end(rec *record, err error) {
	l.Lock()
	defer l.Unlock()
	rec.ended, rec.err, rec.Record = true, err, kgo.Record{}
	rec.first.leave()
	for _, r := range rec.later {
		r.leave()
	}
	rec.first, rec.later = nil, nil
	switch {
	case rec.id == "" || l.behind[rec.id] != rec: // nobody has left it behind, or nobody remembers
	case err != nil || l.stored >= mostStored:
		l.forget(rec)
	default:
		l.stored++
	}
}

func (l *left) forget(rec *record) {
	delete(l.behind, rec.id)
	l.some.Store(len(l.behind) > 0)
}

// conclude says what came of the record of each message; nil is passed over. What has not ended is left behind, because of why.
func (l *left) conclude(batch []sinks.Delivery, records []*record, outcomes []error, why error) {
	l.Lock()
	defer l.Unlock()
	for i, rec := range records {
		switch {
		case rec == nil:
			continue
		case !rec.ended:
			if l.behind == nil {
				l.behind = make(map[string]*record)
			}
			rec.id = strings.Clone(batch[i].MessageID)
			l.behind[rec.id] = rec
			l.some.Store(true)
			outcomes[i] = why
			continue
		case rec.id != "" && l.behind[rec.id] == rec:
			l.forget(rec)
			l.stored--
		}
		outcomes[i] = rec.err
	}
}

// produce hands the messages to the client and waits for their ends, until one ack_timeout after the last. Each outcome is what the
// client said, or errSilent.
func (s *Sink) produce(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	r := newRound()
	m := newMemory(s.part)
	records := make([]*record, len(batch))
	for i := range batch {
		if records[i] = s.left.wait(batch[i].MessageID, r); records[i] != nil {
			continue
		}
		rec := &record{first: r}
		if err := s.render(m, &batch[i], &rec.Record); err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		if err := s.reserve(ctx, rec); err != nil {
			fill(outcomes[i:], err)
			break
		}
		records[i] = rec
		r.n.Add(1)
		s.client.TryProduce(context.Background(), &rec.Record, func(_ *kgo.Record, err error) {
			if err == nil {
				s.trouble.note(nil)
			}
			s.memory.Release(rec.weight)
			s.left.end(rec, err)
		})
	}
	r.leave()
	why := s.await(ctx, r)
	s.left.conclude(batch, records, outcomes, why)
}

// errSilent is the reason of what has no answer in time.
var errSilent = errors.New("no acknowledgement in time")

// await returns nil when all of a round have ended, or why it did not wait for that.
func (s *Sink) await(ctx context.Context, r *round) error {
	timeout := time.NewTimer(time.Duration(s.AckTimeout))
	defer timeout.Stop()
	soon := time.NewTimer(patience)
	defer soon.Stop()
	for {
		select {
		case <-r.all:
			return nil
		case <-timeout.C:
			return errSilent
		case <-ctx.Done():
			return ctx.Err()
		case <-soon.C:
			if s.trouble.get() != nil {
				return errSilent
			}
		}
	}
}

// reserve waits for room in memory, for one ack_timeout at most.
func (s *Sink) reserve(ctx context.Context, rec *record) error {
	size := int64(overhead + len(rec.Key) + len(rec.Value))
	for i := range rec.Headers {
		size += int64(len(rec.Headers[i].Key) + len(rec.Headers[i].Value))
	}
	rec.weight = min(max(size, s.part), pendingBytes)
	if s.memory.TryAcquire(rec.weight) {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, time.Duration(s.AckTimeout))
	defer cancel()
	switch err := s.memory.Acquire(within, rec.weight); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return sinks.Unavailable(s.withTrouble(fmt.Errorf("as many messages as may (max_pending %d, or %d MiB) wait for their acknowledgements", s.MaxPending, pendingBytes>>20)), 0)
}

// withTrouble adds why no connection comes about, where that is so.
func (s *Sink) withTrouble(err error) error {
	switch why := s.trouble.get(); {
	case why == nil:
		return err
	case errors.Is(why, io.EOF):
		return fmt.Errorf("%w: the broker ends connections at once: it may want TLS, none, or another user: %w", err, why)
	default:
		return fmt.Errorf("%w: %w", err, why)
	}
}
