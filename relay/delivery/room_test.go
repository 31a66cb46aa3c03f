package delivery

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/sinks"
)

// enters tries to get room without waiting.
func (m *room) enters(t *testing.T, tn *tenant, bytes int64, doubted bool) *claim {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &claim{tenant: tn, doubted: doubted}
	// A claim that fits is granted before the context is looked at, or right after it.
	if m.enter(ctx, c, bytes) != nil {
		return nil
	}
	return c
}

func TestRoomSharesOut(t *testing.T) {
	m := &room{limit: 800}
	var a, b, mute, mute2, big tenant
	first := m.enters(t, &a, 300, false)
	if first == nil {
		t.Fatal("an empty room lets nobody in")
	}
	if m.enters(t, &a, 10, false) != nil {
		t.Error("one tenant has more than a quarter")
	}
	doubt := m.enters(t, &mute, 300, true)
	if doubt == nil {
		t.Fatal("the first of those in doubt has to wait")
	}
	if m.enters(t, &mute2, 200, true) != nil {
		t.Error("those in doubt have more than half")
	}
	if m.enters(t, &b, 201, false) != nil {
		t.Error("there is more room than there is")
	}
	last := m.enters(t, &b, 200, false)
	if last == nil {
		t.Fatal("there is less room than there is")
	}
	large := m.enters(t, &big, 801, false)
	if large == nil || m.enters(t, &mute, 801, false) != nil || m.enters(t, &mute2, 401, true) != nil {
		t.Error("not exactly one goes alone")
	}
	hesitant := &claim{tenant: &mute2, doubted: true, alone: true, wants: 900, ready: make(chan struct{})}
	certain := &claim{tenant: &mute2, alone: true, wants: 900, ready: make(chan struct{})}
	m.waiting = []*claim{hesitant, certain}
	m.leave(large)
	if !slices.Equal(m.waiting, []*claim{hesitant}) {
		t.Error("one in doubt goes alone before one that is not")
	}
	m.leave(certain)
	m.leave(hesitant)
	m.shrink(last, 100)
	if m.used != 700 || m.doubted != 300 || b.used != 100 {
		t.Errorf("%d bytes are used, %d of them in doubt", m.used, m.doubted)
	}
	for _, c := range []*claim{first, doubt, last} {
		m.leave(c)
	}
	if m.used != 0 || m.alone || a.used+b.used+mute.used+big.used != 0 || len(m.waiting) != 0 {
		t.Errorf("the room is not empty: %+v", m)
	}
}

// Whoever waits for room is not overtaken by smaller ones, and one who gives up lets the next one in.
func TestRoomIsInOrder(t *testing.T) {
	m := &room{limit: 800}
	tenants := make([]tenant, 6)
	var held []*claim
	for i := range 4 {
		held = append(held, m.enters(t, &tenants[i], 200, false))
	}
	wait := func(ctx context.Context, tn *tenant, bytes int64) chan error {
		done := make(chan error, 1)
		waiting := len(m.waiting)
		go func() {
			done <- m.enter(ctx, &claim{tenant: tn}, bytes)
		}()
		waits(t, "it waits", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.waiting) > waiting
		})
		return done
	}
	ctx, giveUp := context.WithCancel(t.Context())
	large := wait(ctx, &tenants[4], 400)
	small := wait(t.Context(), &tenants[5], 50)
	m.leave(held[0])
	if len(m.waiting) != 2 {
		t.Error("a small one overtook")
	}
	giveUp()
	if err := <-large; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that gave up got %v", err)
	}
	if err := <-small; err != nil {
		t.Errorf("the next one got %v", err)
	}
}

// Those who want a message at one time share it; when its reader gives up, another reads it.
func TestShelfShares(t *testing.T) {
	s := NewShelf(1000)
	var tn tenant
	reads := make(chan func(*message.Row, error))
	read := func(most int64) (*message.Row, error) {
		type answer struct {
			r   *message.Row
			err error
		}
		got := make(chan answer, 1)
		reads <- func(r *message.Row, err error) { got <- answer{r, err} }
		a := <-got
		return a.r, a.err
	}
	type taken struct {
		b   *book
		err error
	}
	take := func(ctx context.Context) chan taken {
		done := make(chan taken, 1)
		go func() {
			b, err := s.take(ctx, shelfMark{id: 1}, claim{tenant: &tn}, 10, read)
			done <- taken{b, err}
		}()
		return done
	}
	ctx, giveUp := context.WithCancel(t.Context())
	first := take(ctx)
	answer := <-reads
	second := take(t.Context())
	waits(t, "both want it", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.books[shelfMark{id: 1}].refs == 2
	})
	giveUp()
	answer(nil, context.Canceled)
	if got := <-first; !errors.Is(got.err, context.Canceled) {
		t.Errorf("the one that gave up got %v", got.err)
	}
	answer = <-reads
	answer(nil, &store.LargerError{Bytes: 300})
	answer = <-reads
	want := &message.Row{}
	answer(want, nil)
	third := <-take(t.Context())
	if got := <-second; got.b == nil || got.b.row != want || third.b != got.b {
		t.Fatalf("two got %v and %v", got, third)
	}
	s.put(third.b)
	if len(s.books) != 1 || s.room.used == 0 {
		t.Error("the message is gone while it is used")
	}
	s.put(third.b)
	if len(s.books) != 0 || s.room.used != 0 {
		t.Errorf("%d messages and %d bytes are left", len(s.books), s.room.used)
	}
	select {
	case <-reads:
		t.Error("it was read once too often")
	case <-time.After(0):
	}
}

// However many messages destinations in doubt hold and never give back, and whichever of them one that works wants as well: what it
// wants it gets at once, up to half of the room.
func TestDoubtKeepsNoRoom(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := NewShelf(1000)
		size := int64(1 + rng.IntN(250)) // of a message; a delivery takes two of it
		read := func(int64) (*message.Row, error) {
			return &message.Row{Message: sinks.Message{Payload: make([]byte, size)}}, nil
		}
		ctx, end := context.WithCancel(t.Context())
		var mute sync.WaitGroup
		for range 1 + rng.IntN(20) {
			mark, tn := shelfMark{id: rng.Int64N(4)}, &tenant{}
			mute.Go(func() {
				if b, err := s.take(ctx, mark, claim{tenant: tn, doubted: true}, size, read); err == nil {
					<-ctx.Done()
					s.put(b)
				}
			})
			if rng.IntN(2) == 0 {
				runtime.Gosched()
			}
		}
		var works tenant
		for range 20 {
			got := make(chan error, 1)
			go func() {
				b, err := s.take(ctx, shelfMark{id: rng.Int64N(4)}, claim{tenant: &works}, size, read)
				if err == nil {
					s.put(b)
				}
				got <- err
			}()
			select {
			case err := <-got:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("seed %d: with %d of %d bytes in doubt, one that works waits", seed, s.room.doubted, s.room.limit)
			}
		}
		end()
		mute.Wait()
		if s.room.used != 0 || s.room.doubted != 0 || len(s.books) != 0 {
			t.Fatalf("seed %d: %d bytes are left, %d of them in doubt", seed, s.room.used, s.room.doubted)
		}
	}
}

// waits gives what another goroutine is about to do its time.
func waits(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("still not: ", what)
		}
	}
}
