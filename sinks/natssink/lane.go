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

// lane is what one Deliver at a time works with: the message that it fills again and again, and the subscription on which
// the acknowledgements come. One that waits for acknowledgements when its Deliver gives up is not used again, so none
// that comes late can be taken for another message's.
type lane struct {
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

// take returns a lane for a batch of that size, and a channel that is closed when the connection is lost from now on.
func (c *conn) take(cfg *Config, size int) (*lane, <-chan struct{}, error) {
	c.mu.Lock()
	lost := c.lost
	var l *lane
	if n := len(c.idle); n > 0 {
		l, c.idle = c.idle[n-1], c.idle[:n-1]
	}
	c.mu.Unlock()
	if l != nil && size <= len(l.subjects) {
		return l, lost, nil
	}
	if l != nil {
		c.drop(l)
	}
	l, err := newLane(c.nc, cfg, max(size, cfg.Batch))
	return l, lost, err
}

func newLane(nc *nats.Conn, cfg *Config, room int) (*lane, error) {
	l := &lane{renderer: newRenderer(cfg), subjects: make([]string, room)}
	if cfg.Core {
		return l, nil
	}
	l.prefix = nc.NewInbox() + "."
	l.acks = make(chan *nats.Msg, 2*room) // Others may answer, too: whoever subscribes to the subject.
	l.ends, l.groups = make([]int, room), make([]group, 0, room)
	l.timer = time.NewTimer(time.Hour)
	l.timer.Stop()
	var err error
	l.sub, err = nc.ChanSubscribe(l.prefix+"*", l.acks)
	return l, err
}

// give returns a lane for the next Deliver.
func (c *conn) give(l *lane) {
	l.rest()
	l.outcomes = nil
	if l.pending > 0 {
		c.drop(l)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, l)
}

// drop ends a lane's subscription. It fails on a closed connection alone, where there is none any more.
func (c *conn) drop(l *lane) {
	if l.sub != nil {
		_ = l.sub.Unsubscribe()
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
func (l *lane) begin(outcomes []error) {
	clear(l.subjects[:len(outcomes)])
	l.outcomes, l.failed = outcomes, false
	if l.sub == nil {
		return
	}
	l.stream, l.size = l.stream[:0], 1
	if len(outcomes) >= 2*groupSize {
		l.size = groupSize
	}
	l.group((len(outcomes) + l.size - 1) / l.size)
}

// group prepares n groups.
func (l *lane) group(n int) {
	for len(l.acks) > 0 {
		<-l.acks // Second answers to earlier messages.
	}
	l.groups = l.groups[:n]
	clear(l.groups)
	b := l.scratch[:0]
	for i := range n {
		b = append(b, l.prefix...)
		b = strconv.AppendUint(b, l.next+uint64(i), 10)
		l.ends[i] = len(b)
	}
	l.scratch, l.replies, l.first = b, string(b), l.next
	l.next += uint64(n)
}

// reply returns the subject to answer to the messages of group i, empty on core NATS.
func (l *lane) reply(i int) string {
	switch {
	case l.sub == nil:
		return ""
	case i == 0:
		return l.replies[:l.ends[0]]
	}
	return l.replies[l.ends[i-1]:l.ends[i]]
}

// groupOf returns the group of message i.
func (l *lane) groupOf(i int) int { return i / max(l.size, 1) }

// sent notes that message i has been published, in group n.
func (l *lane) sent(i, n int) {
	l.subjects[i] = l.msg.Subject
	if l.sub != nil {
		g := &l.groups[n]
		g.message = i
		g.sent++
		l.outcomes[i] = errPending
		l.pending++
	}
}

// giveUp gives all messages that still wait for their acknowledgement that error.
func (l *lane) giveUp(err error) {
	for i := range l.outcomes {
		if l.outcomes[i] == errPending {
			l.outcomes[i], l.failed = err, true
		}
	}
}

// wait returns nil when all acknowledgements have come.
func (l *lane) wait(ctx context.Context, lost <-chan struct{}, timeout time.Duration) error {
	if l.pending == 0 {
		return nil
	}
	l.timer.Reset(timeout)
	defer l.timer.Stop()
	for l.pending > 0 {
		select {
		case m := <-l.acks:
			l.settle(m)
			continue
		default:
		}
		select {
		case m := <-l.acks:
			l.settle(m)
		case <-lost:
			return l.last(nats.ErrDisconnected)
		case <-l.timer.C:
			return l.last(jetstream.ErrAsyncPublishTimeout)
		case <-ctx.Done():
			return l.last(fmt.Errorf("wait for JetStream: %w", ctx.Err()))
		}
	}
	return nil
}

// last takes what has come already: of an acknowledgement and the end of the waiting, the acknowledgement counts.
func (l *lane) last(err error) error {
	for len(l.acks) > 0 {
		l.settle(<-l.acks)
	}
	return err
}

// settle records an answer, unless it belongs to no message that waits for one.
func (l *lane) settle(m *nats.Msg) {
	number, err := strconv.ParseUint(m.Subject[len(l.prefix):], 10, 64)
	n := number - l.first // of an earlier group it is huge, below zero
	if err != nil || n >= uint64(len(l.groups)) {
		return
	}
	g := &l.groups[n]
	if g.answered == g.sent {
		return
	}
	g.answered++
	l.pending--
	if g.sent == 1 {
		l.outcomes[g.message] = answer(m)
		l.failed = l.failed || l.outcomes[g.message] != nil
		return
	}
	l.count(g, m)
}
