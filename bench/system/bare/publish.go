package bare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// outstanding is the number of messages without an acknowledgement at most.
const outstanding = 8192

// publisher publishes with message ids and counts acknowledgements; it does not keep which.
type publisher struct {
	conn      *nats.Conn
	subjects  []string
	message   nats.Msg
	published int64
	acked     atomic.Int64
	progress  chan struct{} // filled now and then when acknowledgements come
}

func newPublisher(url string, subjects []string, fail context.CancelCauseFunc) (*publisher, error) {
	conn, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	p := &publisher{conn: conn, subjects: subjects, progress: make(chan struct{}, 1)}
	p.message = nats.Msg{Reply: conn.NewInbox(), Header: nats.Header{jetstream.MsgIDHeader: []string{""}}}
	sub, err := conn.Subscribe(p.message.Reply, func(m *nats.Msg) { p.ack(m, fail) })
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	return p, err
}

var stored = []byte(`{"stream":`)

func (p *publisher) ack(m *nats.Msg, fail context.CancelCauseFunc) {
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

func (p *publisher) put(ctx context.Context, id, payload []byte) error {
	// The client has encoded everything when it returns.
	p.message.Header[jetstream.MsgIDHeader][0] = string(id)
	p.message.Data = payload
	for _, p.message.Subject = range p.subjects {
		if err := p.room(ctx); err != nil {
			return err
		}
		if err := p.conn.PublishMsg(&p.message); err != nil {
			return err
		}
		p.published++
	}
	return nil
}

// room waits until another message may be outstanding.
func (p *publisher) room(ctx context.Context) error {
	for p.published-p.acked.Load() >= outstanding {
		select {
		case <-p.progress:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *publisher) close() error {
	defer p.conn.Close()
	if err := p.conn.FlushTimeout(5 * time.Second); err != nil {
		return err
	}
	for late := time.After(10 * time.Second); p.acked.Load() < p.published; {
		select {
		case <-p.progress:
		case <-late:
			return errors.New(strings.Join(p.subjects, ", ") + ": acknowledgements are missing")
		}
	}
	return nil
}
