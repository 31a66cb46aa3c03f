package torture

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/internal/natstest"
)

// shortWindow is the least that JetStream takes for its duplicate window: nearly every repeated delivery shows in the stream.
const shortWindow = 100 * time.Millisecond

// stream is a JetStream stream that a subscription publishes to, and what the checker has read of it.
type stream struct {
	config jetstream.StreamConfig
	nats   *natstest.Cluster
	book   *book

	mu   sync.Mutex // one reader at a time
	read uint64     // sequence number of the last message in the book
}

// create makes the stream.
func (s *stream) create(ctx context.Context) error { return s.nats.CreateStream(ctx, s.config) }

// catchUp reads what the stream holds now and has not been read.
func (s *stream) catchUp(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read, err = s.nats.Read(ctx, s.config.Name, s.read, s.take)
	return err
}

// take enters a message into the book.
func (s *stream) take(m natstest.Message) {
	s.book.enter(m.Data, m.Header.Get(jetstream.MsgIDHeader), m.Time, "stream "+s.config.Name)
}

// remove deletes the stream, after all that it confirmed has been read.
func (s *stream) remove(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read, err = s.nats.Seize(ctx, s.config.Name, s.read, s.take)
	if err == nil {
		s.read = 0
	}
	return err
}

// limit lets the stream hold so many messages and refuse more; -1 means no limit.
func (s *stream) limit(ctx context.Context, messages int64) error {
	return s.nats.Limit(ctx, s.config.Name, messages, -1)
}
