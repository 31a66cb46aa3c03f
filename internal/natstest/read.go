package natstest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message is a message of a stream or, without Seq and Time, one that a Tap saw.
type Message struct {
	Seq     uint64 // in the stream
	Subject string
	Header  nats.Header
	Data    []byte
	Time    time.Time // when it was stored
}

// errMissing says that a stream lacks messages.
var errMissing = errors.New("messages are missing")

// errTrouble says that reading must begin anew where it was.
var errTrouble = errors.New("the consumer lost its place")

// Read calls f for the messages of a stream that follow the given sequence number (0: from the first one), in order,
// up to what was the last one at the time of the call, and returns its sequence number. It goes on after restarts of servers,
// until ctx ends. After an error, what is returned is how far it came. Every sequence number must exist.
func (c *Cluster) Read(ctx context.Context, stream string, after uint64, f func(Message)) (uint64, error) {
	r := &reader{c: c, stream: stream, read: after, f: f}
	info, err := r.info(ctx)
	if err == nil && info.State.LastSeq < after {
		err = fmt.Errorf("it ends with message %d, before %d: %w", info.State.LastSeq, after, errMissing)
	}
	if err == nil && info.State.LastSeq > after {
		r.last = info.State.LastSeq
		err = request(ctx, func(context.Context) error { return r.session(ctx) })
	}
	if err != nil {
		return r.read, fmt.Errorf("read stream %s: %w", stream, err)
	}
	return r.read, nil
}

// ReadAll is Read from the first message.
func (c *Cluster) ReadAll(ctx context.Context, stream string, f func(Message)) error {
	_, err := c.Read(ctx, stream, 0, f)
	return err
}

type reader struct {
	c          *Cluster
	stream     string
	read, last uint64 // so far, and in the end
	f          func(Message)
}

func (r *reader) info(ctx context.Context) (info *jetstream.StreamInfo, err error) {
	err = request(ctx, func(ctx context.Context) error {
		s, err := r.c.js.Stream(ctx, r.stream)
		if err == nil {
			info = s.CachedInfo()
		}
		return err
	})
	return info, err
}

// session reads with one consumer. Consumers acknowledge nothing and live in the memory of
// one server: whatever happens to that, the next session takes up the thread.
func (r *reader) session(ctx context.Context) error {
	// After a reconnect the answers to what was asked before do not come.
	ctx, cancel := r.c.alarm.until(ctx)
	defer cancel()
	info, err := r.info(ctx)
	if err != nil {
		return err
	}
	if info.State.FirstSeq > r.read+1 {
		return fmt.Errorf("it begins with message %d, after %d: %w", info.State.FirstSeq, r.read, errMissing)
	}
	once, cancelOnce := context.WithTimeout(ctx, attempt)
	defer cancelOnce()
	consumer, err := r.c.js.CreateConsumer(once, r.stream, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.read + 1,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(5000), jetstream.PullExpiry(2*time.Second),
		jetstream.PullHeartbeat(500*time.Millisecond), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for n := uint64(1); r.read < r.last; n++ {
		if err := r.next(ctx, messages, n); err != nil {
			return err
		}
	}
	end, cancelEnd := context.WithTimeout(ctx, attempt)
	defer cancelEnd()
	_ = r.c.js.DeleteConsumer(end, r.stream, consumer.CachedInfo().Name) // Otherwise it goes by itself.
	return nil
}

// next reads one message, the nth of its consumer.
func (r *reader) next(ctx context.Context, messages jetstream.MessagesContext, n uint64) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return err
	}
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	if meta.Sequence.Consumer != n { // Some were lost on their way.
		return errTrouble
	}
	if seq := meta.Sequence.Stream; seq != r.read+1 {
		return fmt.Errorf("message %d follows %d: %w", seq, r.read, errMissing)
	}
	r.read++
	r.f(Message{Seq: r.read, Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Time: meta.Timestamp})
	return nil
}
