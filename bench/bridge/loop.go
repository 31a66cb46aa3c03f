package bridge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/bench/system"
)

// Loop is one around a client library.
type Loop = batches

// order says what a loop is to do.
type order struct {
	at         string
	attributes bool // each message has all that Postrider's has; else id and payload alone
	fail       context.CancelCauseFunc
}

// NewLoop makes the loop for a destination. With attributes each message has all that Postrider's has. What goes wrong ends it, by fail.
func NewLoop(ctx context.Context, to system.Bridge, attributes bool, fail context.CancelCauseFunc) (*Loop, error) {
	k, err := of(to.Kind)
	if err != nil {
		return nil, err
	}
	return k.loop(ctx, order{at: to.Address, attributes: attributes, fail: fail})
}

// item is a message.
type item struct {
	id      string
	payload []byte
}

// batches hands messages to workers. A batch is what is there when its worker comes, up to a size.
type batches struct {
	size    int
	items   chan item
	workers sync.WaitGroup
	closed  func() error // the client, once the workers have ended; nil for none
}

// sendTimeout bounds the wait for confirms.
const sendTimeout = 30 * time.Second

// newBatches starts one worker for each function, which sends a batch and returns when all of it is confirmed.
func newBatches(ctx context.Context, o order, size int, closed func() error, send ...func(ctx context.Context, batch []item) error) *batches {
	b := &batches{size: size, items: make(chan item, size*len(send)), closed: closed}
	for _, f := range send {
		b.workers.Go(func() {
			if err := b.work(ctx, f); err != nil {
				o.fail(fmt.Errorf("publish: %w", err))
			}
		})
	}
	return b
}

// same is n times one function.
func same[F any](n int, f F) []F {
	list := make([]F, n)
	for i := range list {
		list[i] = f
	}
	return list
}

// Put takes a message, which is valid during the call alone.
func (b *batches) Put(ctx context.Context, id, payload []byte) error {
	select {
	case b.items <- item{string(id), append(make([]byte, 0, len(payload)), payload...)}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *batches) work(ctx context.Context, send func(context.Context, []item) error) error {
	batch := make([]item, 0, b.size)
	for {
		batch = batch[:0]
		select {
		case one := <-b.items:
			batch = append(batch, one)
		case <-ctx.Done():
			return nil // what was not sent yet is dropped: nobody counts on it
		}
		for more := true; more && len(batch) < b.size; {
			select {
			case one := <-b.items:
				batch = append(batch, one)
			default:
				more = false
			}
		}
		if err := b.send(ctx, batch, send); err != nil {
			return err
		}
	}
}

func (b *batches) send(ctx context.Context, batch []item, send func(context.Context, []item) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	return send(ctx, batch)
}

// Close waits until what is under way is confirmed. The context of NewLoop must have ended.
func (b *batches) Close() error {
	b.workers.Wait()
	if b.closed == nil {
		return nil
	}
	return b.closed()
}

// What each message of Postrider has beside id and payload.
const (
	topic        = "bench.t1"
	subscription = "bench"
	mediaType    = "application/json"
	source       = "/postrider/0123456789abcdef"
)

// created is a time as messages have it.
func created() string { return time.Now().UTC().Format(time.RFC3339Nano) }
