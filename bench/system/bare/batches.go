package bare

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// batches publishes with message ids in one fast batch that never ends: the stream says now and then how far it has come. The stream has to
// allow that (allow_batched), and there is one subject.
type batches struct {
	publisher
	prefix []byte // of the subjects to answer to, up to the number
	reply  []byte
}

// flow is how many messages one acknowledgement may stand for: the server's own bound.
const flow = 500

func newBatches(url string, subjects []string, fail context.CancelCauseFunc) (*batches, error) {
	if len(subjects) != 1 {
		return nil, fmt.Errorf("a batch goes to one stream: %d subjects", len(subjects))
	}
	conn, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	b := &batches{publisher: publisher{&Publisher{conn: conn, progress: make(chan struct{}, 1)}, subjects}}
	b.message = nats.Msg{Subject: subjects[0], Header: nats.Header{jetstream.MsgIDHeader: []string{""}}}
	inbox := conn.NewInbox()
	b.prefix = fmt.Appendf(nil, "%s.%s.%d.fail.", inbox, strings.TrimPrefix(inbox, nats.InboxPrefix), flow)
	sub, err := conn.Subscribe(inbox+".>", func(m *nats.Msg) { b.ack(m, fail) })
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	return b, err
}

func (b *batches) ack(m *nats.Msg, fail context.CancelCauseFunc) {
	var a struct {
		Type     string `json:"type"`
		Sequence int64  `json:"seq"`
		Count    int64  `json:"count"` // of the answer to the last message
	}
	err := json.Unmarshal(m.Data, &a)
	switch {
	case err == nil && a.Type == "ack":
		b.acked.Store(max(b.acked.Load(), a.Sequence))
	case err == nil && a.Count > 0:
		b.acked.Store(a.Count)
	default:
		fail(fmt.Errorf("JetStream did not store a message: %s %v", m.Data, m.Header))
		return
	}
	select {
	case b.progress <- struct{}{}:
	default:
	}
}

// What a message is in its batch, as the subject to answer to says it.
const (
	opStart = iota
	opAppend
)

func (b *batches) put(ctx context.Context, id, payload []byte) error {
	if err := b.await(ctx, outstanding-1); err != nil {
		return err
	}
	b.published++
	op := opAppend
	if b.published == 1 {
		op = opStart
	}
	reply := strconv.AppendInt(append(b.reply[:0], b.prefix...), b.published, 10)
	reply = append(strconv.AppendInt(append(reply, '.'), int64(op), 10), ".$FI"...)
	b.reply, b.message.Reply = reply, string(reply)
	b.message.Header[jetstream.MsgIDHeader][0] = string(id)
	b.message.Data = payload
	return b.conn.PublishMsg(&b.message)
}

// close waits until the server has read everything. The last messages are not acknowledged: the batch does not end.
func (b *batches) close() error {
	defer b.conn.Close()
	return b.conn.FlushTimeout(5 * time.Second)
}
