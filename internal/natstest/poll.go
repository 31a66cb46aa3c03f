package natstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	pollEvery = 20 * time.Millisecond
	// attempt bounds one request: the server that should answer may be gone.
	attempt = 3 * time.Second
)

// poll calls f until it returns nil or ctx ends; the error then holds both reasons.
func poll(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !pause(ctx) {
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// pause waits a little. It returns false if ctx ended.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// request repeats f until it succeeds, fails for good or ctx ends.
func request(ctx context.Context, f func(ctx context.Context) error) error {
	var final error
	err := poll(ctx, func() error {
		once, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		err := f(once)
		if isFinal(err) {
			final = err
			return nil
		}
		return err
	})
	return errors.Join(err, final)
}

// flush returns when the server has answered to all that was sent before.
func flush(ctx context.Context, conn *nats.Conn) error {
	return request(ctx, func(ctx context.Context) error {
		err := conn.FlushWithContext(ctx)
		if errors.Is(err, nats.ErrConnectionClosed) && !conn.IsClosed() {
			return nats.ErrConnectionReconnecting // A flush that a lost connection ended.
		}
		return err
	})
}

// isFinal says whether another attempt would fail as well. Servers without a leader answer 5xx or not at all.
func isFinal(err error) bool {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, errMissing) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.Code < 500
}

// alarm cancels contexts. The zero value is ready.
type alarm struct {
	mu      sync.Mutex
	cancels map[*context.CancelFunc]struct{}
}

// until returns a context that ends when the alarm rings next.
func (a *alarm) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancels == nil {
		a.cancels = map[*context.CancelFunc]struct{}{}
	}
	key := &cancel
	a.cancels[key] = struct{}{}
	return ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.cancels, key)
		cancel()
	}
}

func (a *alarm) ring() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for cancel := range a.cancels {
		(*cancel)()
	}
}
