package natssink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// inbox is what one Deliver at a time works with: the message that it fills again and again, and the subscription on which
// the acknowledgements come. One that waits for acknowledgements when its Deliver gives up is not used again, so none
// that comes late can be taken for another message's.
type inbox struct {
	renderer
	sub    *nats.Subscription // nil on core NATS
	acks   chan *nats.Msg
	prefix string // of the subjects to answer to; a group's number follows
	next   uint64 // number of the next group; none is used twice
	timer  *time.Timer

	// Of the batch under way:
	first    uint64   // number of its first group
	groups   []group  // of the messages that are answered at one subject
	size     int      // of each
	stream   []byte   // that answers, as it calls itself
	subjects []string // by message, empty if it was not published
	outcomes []error  // by message, errPending until its acknowledgement has come
	pending  int
	failed   bool   // one of the published was not confirmed
	replies  string // the subjects to answer to, end to end
	ends     []int  // where each of them ends
	scratch  []byte
}

// errPending marks the message whose acknowledgement is awaited.
var errPending = errors.New("waits for its acknowledgement")

// take returns an inbox for a batch of that size, and a channel that is closed when the connection is lost from now on.
func (c *conn) take(cfg *Config, size int) (*inbox, <-chan struct{}, error) {
	c.mu.Lock()
	lost := c.lost
	var in *inbox
	if n := len(c.idle); n > 0 {
		in, c.idle = c.idle[n-1], c.idle[:n-1]
	}
	c.mu.Unlock()
	if in != nil && size <= len(in.subjects) {
		return in, lost, nil
	}
	if in != nil {
		c.drop(in)
	}
	in, err := newInbox(c.nc, cfg, max(size, cfg.Batch))
	return in, lost, err
}

func newInbox(nc *nats.Conn, cfg *Config, room int) (*inbox, error) {
	in := &inbox{renderer: newRenderer(cfg), subjects: make([]string, room)}
	if cfg.Core {
		return in, nil
	}
	in.prefix = nc.NewInbox() + "."
	in.acks = make(chan *nats.Msg, 2*room) // Others may answer, too: whoever subscribes to the subject.
	in.ends, in.groups = make([]int, room), make([]group, 0, room)
	in.timer = time.NewTimer(time.Hour)
	in.timer.Stop()
	var err error
	in.sub, err = nc.ChanSubscribe(in.prefix+"*", in.acks)
	return in, err
}

// give returns an inbox for the next Deliver.
func (c *conn) give(in *inbox) {
	in.rest()
	in.outcomes = nil
	if in.pending > 0 {
		c.drop(in)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, in)
}

// drop ends an inbox's subscription. It fails on a closed connection alone, where there is none any more.
func (c *conn) drop(in *inbox) {
	if in.sub != nil {
		_ = in.sub.Unsubscribe()
	}
}

// lose tells those who wait that no acknowledgement of what was published so far will come.
func (c *conn) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.lost)
	c.lost = make(chan struct{})
}

// begin prepares for a batch, whose subjects to answer to it makes all at once.
func (in *inbox) begin(outcomes []error) {
	clear(in.subjects[:len(outcomes)])
	in.outcomes, in.failed = outcomes, false
	if in.sub == nil {
		return
	}
	in.stream, in.size = in.stream[:0], 1
	if len(outcomes) >= 2*groupSize {
		in.size = groupSize
	}
	in.group((len(outcomes) + in.size - 1) / in.size)
}

// group prepares n groups.
func (in *inbox) group(n int) {
	for len(in.acks) > 0 {
		<-in.acks // Second answers to earlier messages.
	}
	in.groups = in.groups[:n]
	clear(in.groups)
	b := in.scratch[:0]
	for i := range n {
		b = append(b, in.prefix...)
		b = strconv.AppendUint(b, in.next+uint64(i), 10)
		in.ends[i] = len(b)
	}
	in.scratch, in.replies, in.first = b, string(b), in.next
	in.next += uint64(n)
}

// reply returns the subject to answer to the messages of group i, empty on core NATS.
func (in *inbox) reply(i int) string {
	switch {
	case in.sub == nil:
		return ""
	case i == 0:
		return in.replies[:in.ends[0]]
	}
	return in.replies[in.ends[i-1]:in.ends[i]]
}

// groupOf returns the group of message i.
func (in *inbox) groupOf(i int) int { return i / max(in.size, 1) }

// sent notes that message i has been published, in group n.
func (in *inbox) sent(i, n int) {
	in.subjects[i] = in.msg.Subject
	if in.sub != nil {
		g := &in.groups[n]
		g.message = i
		g.sent++
		in.outcomes[i] = errPending
		in.pending++
	}
}

// giveUp gives all messages that still wait for their acknowledgement that error.
func (in *inbox) giveUp(err error) {
	for i := range in.outcomes {
		if in.outcomes[i] == errPending {
			in.outcomes[i], in.failed = err, true
		}
	}
}

// wait returns nil when all acknowledgements have come.
func (in *inbox) wait(ctx context.Context, lost <-chan struct{}, timeout time.Duration) error {
	if in.pending == 0 {
		return nil
	}
	in.timer.Reset(timeout)
	defer in.timer.Stop()
	for in.pending > 0 {
		select {
		case m := <-in.acks:
			in.settle(m)
			continue
		default:
		}
		select {
		case m := <-in.acks:
			in.settle(m)
		case <-lost:
			return in.last(nats.ErrDisconnected)
		case <-in.timer.C:
			return in.last(jetstream.ErrAsyncPublishTimeout)
		case <-ctx.Done():
			return in.last(fmt.Errorf("wait for JetStream: %w", ctx.Err()))
		}
	}
	return nil
}

// last takes what has come already: of an acknowledgement and the end of the waiting, the acknowledgement counts.
func (in *inbox) last(err error) error {
	for len(in.acks) > 0 {
		in.settle(<-in.acks)
	}
	return err
}

// settle records an answer, unless it belongs to no message that waits for one.
func (in *inbox) settle(m *nats.Msg) {
	number, err := strconv.ParseUint(m.Subject[len(in.prefix):], 10, 64)
	n := number - in.first // of an earlier group it is huge, below zero
	if err != nil || n >= uint64(len(in.groups)) {
		return
	}
	g := &in.groups[n]
	if g.answered == g.sent {
		return
	}
	g.answered++
	in.pending--
	if g.sent == 1 {
		in.outcomes[g.message] = answer(m)
		in.failed = in.failed || in.outcomes[g.message] != nil
		return
	}
	in.count(g, m)
}
