package mqttsink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/postrider/postrider/sinks/internal/wire"
)

const (
	// keepAlive is how often we want to be heard, unless the broker says otherwise; one that is silent for one and a half of it is gone.
	keepAlive = 20 * time.Second
	// farewell bounds the writing of the last packet.
	farewell = time.Second
	// mostOut is how many messages may be without an answer, where the broker lets more be.
	mostOut = 2048
)

// link is one connection to a broker.
type link struct {
	wire   *wire.Conn
	in     *bufio.Reader
	limits limits
	out    chan struct{} // holds one for each message without an answer
	done   chan struct{} // closed when it has ended
	err    error         // why; set before done is closed
	beat   sync.WaitGroup
	// silently is what the broker has done when it ends the connection without a word.
	silently error

	mu      sync.Mutex // held while something is written, too
	buffer  *bufio.Writer
	waiting map[uint16]*waiting // by the packet's identifier
	last    uint16
}

// limits are what the broker said of itself.
type limits struct {
	packet    int // bytes
	out       int
	keepAlive time.Duration
}

// waiting is a message without an answer.
type waiting struct {
	place    int
	answered chan struct{}
	answer   *packets.Puback // nil: the connection ended first
}

// read hands answers to those who wait for them, until the connection ends.
func (l *link) read() {
	err := l.follow()
	l.wire.Reset()
	l.mu.Lock()
	l.err = l.wire.Explain(err)
	for id, w := range l.waiting {
		delete(l.waiting, id)
		close(w.answered)
	}
	close(l.done)
	l.mu.Unlock()
	l.beat.Wait()
}

func (l *link) follow() error {
	for {
		if err := l.wire.SetReadDeadline(time.Now().Add(l.limits.keepAlive * 3 / 2)); err != nil {
			return err
		}
		p, err := l.next()
		if errors.Is(err, io.EOF) {
			return l.silently
		}
		if err != nil {
			return err
		}
		switch content := p.Content.(type) {
		case *packets.Puback:
			l.answer(content)
		case *packets.Disconnect:
			return &refusal{content.ReasonCode, reasonOf(content.Properties), "the broker ended the connection"}
		}
	}
}

func (l *link) answer(a *packets.Puback) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.waiting[a.PacketID]; w != nil {
		delete(l.waiting, a.PacketID)
		w.answer = a
		close(w.answered)
		<-l.out
	}
}

// ping keeps the connection alive.
func (l *link) ping() {
	ticker := time.NewTicker(l.limits.keepAlive / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.mu.Lock()
			_, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(l.buffer)
			if err == nil {
				err = l.buffer.Flush()
			}
			l.mu.Unlock()
			if err != nil {
				l.wire.Reset()
			}
		case <-l.done:
			return
		}
	}
}

// publish writes a message, and returns who waits for its answer. It waits while the broker lets no more be without one.
func (l *link) publish(ctx context.Context, place int, p *packets.Publish) (*waiting, error) {
	select {
	case l.out <- struct{}{}:
	default:
		if err := l.room(ctx); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Gone() {
		return nil, l.err
	}
	for {
		if l.last++; l.last != 0 && l.waiting[l.last] == nil {
			break
		}
	}
	p.PacketID = l.last
	w := &waiting{place: place, answered: make(chan struct{})}
	l.waiting[l.last] = w
	if _, err := p.WriteTo(l.buffer); err != nil {
		l.wire.Reset() // whoever reads notices, and says so to all who wait
	}
	return w, nil
}

// room waits until one more may be without an answer; what is in the buffer has to be on its way for that.
func (l *link) room(ctx context.Context) error {
	l.flush()
	select {
	case l.out <- struct{}{}:
		return nil
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("the broker answers none of the %d messages that may be without an answer: %w", cap(l.out), ctx.Err())
	}
}

func (l *link) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buffer.Flush() != nil {
		l.wire.Reset()
	}
}

// ended is why the connection has: in doubt if a message may be to blame. Brokers close it without a word, too.
func (l *link) ended() error {
	r, said := l.err.(*refusal)
	if said && codes[r.code].of == message || !said && l.wire.Ended() {
		return &doubt{l.err}
	}
	return l.err
}

// Gone says whether the connection has ended.
func (l *link) Gone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Close says farewell and ends the connection.
func (l *link) Close() error {
	_ = l.wire.SetWriteDeadline(time.Now().Add(farewell)) // whoever is gone needs no farewell
	l.mu.Lock()
	if _, err := (&packets.Disconnect{Properties: &packets.Properties{}}).WriteTo(l.buffer); err == nil {
		_ = l.buffer.Flush()
	}
	l.mu.Unlock()
	_ = l.wire.Close()
	<-l.done
	l.beat.Wait()
	return nil
}
