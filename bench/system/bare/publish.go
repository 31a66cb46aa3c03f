package bare

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// outstanding is the number of messages without an acknowledgement at most.
const outstanding = 8192

// Publisher publishes to JetStream with message ids and counts acknowledgements; it does not keep which. One goroutine may use it.
type Publisher struct {
	conn      *nats.Conn
	message   nats.Msg
	published int64
	acked     atomic.Int64
	progress  chan struct{} // filled now and then when acknowledgements come
}

// NewPublisher connects. What JetStream does not store is told to fail.
func NewPublisher(url string, fail context.CancelCauseFunc) (*Publisher, error) {
	conn, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	p := &Publisher{conn: conn, progress: make(chan struct{}, 1)}
	p.message = nats.Msg{Reply: conn.NewInbox(), Header: nats.Header{jetstream.MsgIDHeader: []string{""}}}
	sub, err := conn.Subscribe(p.message.Reply, func(m *nats.Msg) { p.ack(m, fail) })
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	return p, err
}

var stored = []byte(`{"stream":`)

func (p *Publisher) ack(m *nats.Msg, fail context.CancelCauseFunc) {
	if !bytes.HasPrefix(m.Data, stored) || bytes.Contains(m.Data, []byte(`"error"`)) {
		fail(fmt.Errorf("JetStream did not store a message: %s %v", m.Data, m.Header))
		return
	}
	p.acked.Add(1)
	select {
	case p.progress <- struct{}{}:
	default:
	}
}

// Put publishes a message, once there is room for it among those without an acknowledgement.
func (p *Publisher) Put(ctx context.Context, subject, id string, payload []byte) error {
	if err := p.await(ctx, outstanding-1); err != nil {
		return err
	}
	// The client has encoded everything when it returns.
	p.message.Header[jetstream.MsgIDHeader][0] = id
	p.message.Subject, p.message.Data = subject, payload
	if err := p.conn.PublishMsg(&p.message); err != nil {
		return err
	}
	p.published++
	return nil
}

// Settle waits until all that was published is stored. The client flushes by itself.
func (p *Publisher) Settle(ctx context.Context) error { return p.await(ctx, 0) }

// await waits until so many are without an acknowledgement at most.
func (p *Publisher) await(ctx context.Context, most int64) error {
	for p.published-p.acked.Load() > most {
		select {
		case <-p.progress:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close waits for the acknowledgements that are missing, for ten seconds at most.
func (p *Publisher) Close() error {
	defer p.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Settle(ctx); err != nil {
		return fmt.Errorf("acknowledgements are missing: %w", err)
	}
	return nil
}

// publisher publishes each message to some subjects.
type publisher struct {
	*Publisher
	subjects []string
}

func newPublisher(url string, subjects []string, fail context.CancelCauseFunc) (*publisher, error) {
	p, err := NewPublisher(url, fail)
	if err != nil {
		return nil, err
	}
	return &publisher{p, subjects}, nil
}

func (p *publisher) put(ctx context.Context, id, payload []byte) error {
	name := string(id)
	for _, subject := range p.subjects {
		if err := p.Put(ctx, subject, name, payload); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) close() error { return p.Close() }
