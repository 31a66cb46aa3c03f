package delivery

import (
	"context"
	"errors"
	"sync"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/store"
)

// shelf keeps the messages that are read by themselves while they are delivered: subscriptions that deliver one at the same time
// share it, and the room that it takes. Those that are in doubt share with each other only: what a destination that does not answer
// holds on to must never count as room of one that works.
type shelf struct {
	room room

	mu    sync.Mutex
	books map[shelfMark]*book
}

// shelfMark tells a message by what read it: a copy that is parked is that subscription's.
type shelfMark struct {
	parked  string // subscription; "": the outbox's
	id      int64
	created int64
	doubted bool // by those who take it
}

// book is a message on the shelf.
type book struct {
	mark  shelfMark
	refs  int
	claim *claim        // of whoever reads it
	ready chan struct{} // closed when it has been read, or could not be
	row   *message.Row
	err   error
}

// guess is what a message of unknown size is taken to have.
const guess = 256 << 10

// copies of a message's bytes are in memory during its delivery: the message, and what the sink makes of it.
const copies = 2

// errGivenUp tells those who wait for a book that its reader has left.
var errGivenUp = errors.New("the reader has given up")

func NewShelf(limit int64) *shelf {
	return &shelf{room: room{limit: limit}, books: make(map[shelfMark]*book)}
}

// Lent is how many bytes were not given back.
func (s *shelf) Lent() int64 {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return s.room.used + s.room.doubted
}

// take returns the message, read by one of those who want it at the time. After it has been delivered, put gives it back. The size
// may be a guess; read fails with a largerError if the message has more than most.
func (s *shelf) take(ctx context.Context, mark shelfMark, c claim, size int64, read func(most int64) (*message.Row, error)) (*book, error) {
	mark.doubted = c.doubted
	for {
		s.mu.Lock()
		b := s.books[mark]
		if b == nil {
			b = &book{mark: mark, refs: 1, claim: &claim{tenant: c.tenant, doubted: c.doubted}, ready: make(chan struct{})}
			s.books[mark] = b
			s.mu.Unlock()
			s.fill(ctx, b, size, read)
		} else {
			b.refs++
			s.mu.Unlock()
		}
		select {
		case <-b.ready:
		case <-ctx.Done():
			s.put(b)
			return nil, ctx.Err()
		}
		if b.err == nil {
			return b, nil
		}
		err := b.err
		s.put(b)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, errGivenUp):
			return nil, err
		}
	}
}

// fill reads the message once there is room for it. It may turn out to be larger than that: then it waits again.
func (s *shelf) fill(ctx context.Context, b *book, size int64, read func(most int64) (*message.Row, error)) {
	defer close(b.ready)
	for {
		if s.room.enter(ctx, b.claim, copies*size) != nil {
			b.err = errGivenUp
			break
		}
		b.row, b.err = read(size)
		larger, ok := errors.AsType[*store.LargerError](b.err)
		if !ok {
			break
		}
		s.room.leave(b.claim)
		size = larger.Bytes
	}
	if b.err == nil {
		s.room.shrink(b.claim, copies*b.row.Size())
		return
	}
	if ctx.Err() != nil {
		b.err = errGivenUp
	}
	s.room.leave(b.claim)
	s.mu.Lock()
	delete(s.books, b.mark)
	s.mu.Unlock()
}

// put gives a book back.
func (s *shelf) put(b *book) {
	s.mu.Lock()
	b.refs--
	last := b.refs == 0
	if last && s.books[b.mark] == b {
		delete(s.books, b.mark)
	}
	s.mu.Unlock()
	if last {
		b.row = nil
		s.room.leave(b.claim)
	}
}
