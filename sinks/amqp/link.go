package amqpsink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

// window is how many messages may be without an answer on one channel: so many returns it can hold.
const window = 256

// closeTimeout bounds the farewell.
const closeTimeout = 2 * time.Second

// link is one connection to a server.
type link struct {
	conn *amqp.Connection
	wire *wire.Conn
	done chan struct{} // closed when it has ended
	err  error         // why; set before done is closed

	mu        sync.Mutex
	idle      []*channel
	late      []*channel    // channels with messages that were given up during an alarm
	alarm     string        // of the server, empty for none
	unblocked chan struct{} // closed when the alarm is over; nil without one
	meter     *sinks.Meter  // of alarms; nil: nobody counts
	over      func()        // for the meter, of an alarm
}

// channel is one of a link. One batch at a time has it.
type channel struct {
	*amqp.Channel
	returns chan amqp.Return
	closes  chan *amqp.Error
	reason  error // why it was closed, once that was asked for
	sent    []sent
}

// sent is a message that waits for its confirm.
type sent struct {
	place   int
	id      string
	confirm *amqp.DeferredConfirmation
}

func newLink(conn *amqp.Connection, w *wire.Conn, meter *sinks.Meter) *link {
	l := &link{conn: conn, wire: w, done: make(chan struct{}), meter: meter, over: func() {}}
	blocks, closes := conn.NotifyBlocked(make(chan amqp.Blocking, 8)), conn.NotifyClose(make(chan *amqp.Error, 1))
	go l.watch(blocks, closes)
	return l
}

// watch follows alarms until the connection ends.
func (l *link) watch(blocks <-chan amqp.Blocking, closes <-chan *amqp.Error) {
	defer close(l.done)
	defer func() { l.over() }()
	for {
		select {
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			l.sound(b)
		case err, ok := <-closes:
			if l.err = errClosed; ok {
				l.err = err
			}
			return
		}
	}
}

var errClosed = errors.New("the connection was closed")

func (l *link) sound(b amqp.Blocking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case b.Active && l.unblocked == nil:
		l.alarm, l.unblocked, l.over = b.Reason, make(chan struct{}), l.meter.Block()
	case !b.Active && l.unblocked != nil:
		close(l.unblocked)
		l.over()
		l.alarm, l.unblocked = "", nil
	}
}

// blocked says why the server reads nothing now, nil if it does, and gives what is closed when that is over.
func (l *link) blocked() (over <-chan struct{}, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unblocked == nil {
		return nil, nil
	}
	return l.unblocked, &alarmError{l.alarm}
}

// alarmError is a server that takes no messages until it has room again.
type alarmError struct{ reason string }

// Error says so.
func (e *alarmError) Error() string {
	return fmt.Sprintf("the server takes no messages for now: it has an alarm (%s)", e.reason)
}

// Gone says whether the connection has ended.
func (l *link) Gone() bool {
	select {
	case <-l.done:
		return true
	default:
		return l.conn.IsClosed()
	}
}

// clear waits until the server takes messages, and has answered all that was given up during an alarm: nothing is sent beside them.
func (l *link) clear(ctx context.Context) error {
	for {
		over, why := l.blocked()
		if why != nil {
			select {
			case <-over:
				continue
			case <-l.done:
				return l.err
			case <-ctx.Done():
				return why
			}
		}
		c, waiting := l.oldest()
		if c == nil {
			return nil
		}
		if wait(ctx, waiting) != nil {
			return errors.New("messages that were sent before an alarm of the server have no confirm yet")
		}
		l.settled(c)
	}
}

// oldest returns a channel with messages that were given up, and these, nil for none.
func (l *link) oldest() (*channel, []sent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.late) == 0 {
		return nil, nil
	}
	return l.late[0], l.late[0].sent
}

// settled takes a channel off those with messages that were given up, once.
func (l *link) settled(c *channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.late, c); i >= 0 {
		l.late = slices.Delete(l.late, i, i+1)
		c.returned()
		c.sent = nil
		l.idle = append(l.idle, c)
	}
}

// wait waits until each message has been answered, or its channel closed.
func wait(ctx context.Context, list []sent) error {
	for _, m := range list {
		select {
		case <-m.confirm.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// returned takes what was returned out of the channel: all of what was confirmed is there, since returns come ahead of confirms.
func (c *channel) returned() map[string]amqp.Return {
	var list map[string]amqp.Return
	for {
		select {
		case r, ok := <-c.returns:
			if !ok {
				return list
			}
			if list == nil {
				list = make(map[string]amqp.Return)
			}
			list[r.MessageId] = r
		default:
			return list
		}
	}
}

// why says why the channel was closed, nil if it was not.
func (c *channel) why() error {
	if c.reason != nil {
		return c.reason
	}
	select {
	case err := <-c.closes:
		return c.closed(err)
	default:
		return nil
	}
}

// closed remembers why the channel was closed; nil if nobody said.
func (c *channel) closed(err *amqp.Error) error {
	if c.reason = errClosed; err != nil {
		c.reason = err
	}
	return c.reason
}

// open returns a channel that nobody else has, in confirm mode. It waits for no longer than ctx: the connection ends then.
func (l *link) open(ctx context.Context) (*channel, error) {
	l.mu.Lock()
	for len(l.idle) > 0 {
		c := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		if c.why() == nil && !c.IsClosed() {
			l.mu.Unlock()
			return c, nil
		}
	}
	l.mu.Unlock()
	defer context.AfterFunc(ctx, l.reset)()
	inner, err := l.conn.Channel()
	if err != nil {
		return nil, err
	}
	c := &channel{Channel: inner, returns: inner.NotifyReturn(make(chan amqp.Return, window)), closes: inner.NotifyClose(make(chan *amqp.Error, 1))}
	return c, inner.Confirm(false)
}

// give gives a channel back on which nothing waits for an answer.
func (l *link) give(c *channel) {
	c.sent = nil
	if c.why() == nil && !c.IsClosed() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.idle = append(l.idle, c)
	}
}

// giveUp is for a channel on which messages were not answered in time. While an alarm lasts they are in the server's hands, and are waited for
// before anything else is sent; otherwise the connection ends.
func (l *link) giveUp(c *channel) {
	if _, why := l.blocked(); why == nil || l.Gone() {
		l.reset()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.late = append(l.late, c)
}

// reset ends the connection without a farewell.
func (l *link) reset() { l.wire.Reset() }

// Close says farewell, if the server listens.
func (l *link) Close() error {
	timer := time.AfterFunc(closeTimeout, l.reset)
	defer timer.Stop()
	_ = l.conn.Close() // whoever is gone needs no farewell
	l.reset()
	<-l.done
	return nil
}
