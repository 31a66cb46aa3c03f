package natstest

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Tap is a plain subscription, with a connection of its own.
type Tap struct {
	conn   *nats.Conn
	sub    *nats.Subscription
	closed chan struct{}
}

// Tap calls f, one message after the other, for all that is published to a subject (wildcards allowed) from now on.
// What is published while the tap's server is down is not seen. See the package's documentation for what a tap changes.
func (c *Cluster) Tap(ctx context.Context, subject string, f func(Message)) (*Tap, error) {
	conn, err := c.connect("tap")
	if err != nil {
		return nil, fmt.Errorf("tap %s: %w", subject, err)
	}
	t := &Tap{conn: conn, closed: make(chan struct{})}
	t.sub, err = conn.Subscribe(subject, func(m *nats.Msg) { f(Message{Subject: m.Subject, Header: m.Header, Data: m.Data}) })
	if err == nil {
		err = t.sub.SetPendingLimits(-1, -1)
	}
	if err == nil {
		t.sub.SetClosedHandler(func(string) { close(t.closed) })
		err = flush(ctx, conn)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("tap %s: %w", subject, err)
	}
	return t, nil
}

// Stop ends the tap after f was called for all that the server has handed over. If ctx ends first, the rest is lost.
func (t *Tap) Stop(ctx context.Context) error {
	defer t.conn.Close()
	err := t.sub.Drain()
	if err == nil {
		select {
		case <-t.closed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("stop the tap of %s: %w", t.sub.Subject, err)
	}
	return nil
}
