package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// heardPrefix is before the topic names that an ear is subscribed to.
const heardPrefix = "heard/"

// ear is a subscriber of a broker of MQTT, with a session that lasts. It speaks the protocol by itself, since a client of a library gives up what it has
// read and not handed on when a connection breaks.
type ear struct {
	book *book
	seen map[string]bool // message ids

	mu     sync.Mutex // held while a packet is written
	conn   net.Conn
	reader sync.WaitGroup
	broken error  // what ended the reader
	marks  uint64 // messages of our own that were sent
	marked uint64 // the last one that came back
}

func newEar(b *book) *ear { return &ear{book: b, seen: make(map[string]bool)} }

// join connects, subscribes, and has all that comes be entered into the book.
func (e *ear) join(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	connect, subscribe := packets.NewControlPacket(packets.CONNECT), packets.NewControlPacket(packets.SUBSCRIBE)
	lasts := uint32(3600)
	c, s := connect.Content.(*packets.Connect), subscribe.Content.(*packets.Subscribe)
	c.ClientID, c.Properties.SessionExpiryInterval = "checker", &lasts
	s.PacketID, s.Subscriptions = 1, []packets.SubOptions{{Topic: heardPrefix + "#", QoS: 1}}
	e.mu.Lock()
	e.conn, e.broken = conn, nil
	e.mu.Unlock()
	if err := e.write(connect); err != nil {
		return errors.Join(err, conn.Close())
	}
	answer, err := packets.ReadPacket(in)
	if err == nil {
		if a, ok := answer.Content.(*packets.Connack); !ok || a.ReasonCode != 0 {
			err = fmt.Errorf("instead of letting us in it says %v", answer)
		}
	}
	if err == nil {
		err = e.write(subscribe)
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	subscribed := make(chan struct{})
	e.reader.Go(func() { e.listen(in, sync.OnceFunc(func() { close(subscribed) })) })
	select {
	case <-subscribed:
	case <-time.After(time.Minute):
		return errors.New("it does not answer to SUBSCRIBE")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.broken
}

// leave ends the connection, from here unless it is broken, after all that was sent to us has been read.
func (e *ear) leave() {
	e.mu.Lock()
	conn := e.conn
	e.mu.Unlock()
	if conn == nil {
		return
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.CloseWrite() // the broker closes then, or is gone
	}
	e.reader.Wait()
	_ = conn.Close()
}

// write sends a packet.
func (e *ear) write(p *packets.ControlPacket) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := p.WriteTo(e.conn)
	return err
}

// listen reads until the connection ends.
func (e *ear) listen(in io.Reader, subscribed func()) {
	defer subscribed()
	for {
		p, err := packets.ReadPacket(in)
		if err != nil {
			e.mu.Lock()
			e.broken = err
			e.mu.Unlock()
			return
		}
		switch m := p.Content.(type) {
		case *packets.Suback:
			subscribed()
		case *packets.Publish:
			e.hear(m)
		}
	}
}

// hear takes a message. One that the broker sends once more, because it forgot that it had it confirmed, is not the relay's repeat.
func (e *ear) hear(m *packets.Publish) {
	if m.QoS == 1 {
		ack := packets.NewControlPacket(packets.PUBACK)
		ack.Content.(*packets.Puback).PacketID = m.PacketID
		_ = e.write(ack) // a connection that breaks still has what was sent to us
	}
	if m.Topic == heardPrefix+"mark" {
		e.mu.Lock()
		defer e.mu.Unlock()
		_, _ = fmt.Sscan(string(m.Payload), &e.marked) // it is ours
		return
	}
	var id string
	for _, u := range m.Properties.User {
		if u.Key == "id" {
			id = u.Value
		}
	}
	if m.Duplicate && e.seen[id] {
		return
	}
	e.seen[id] = true
	e.book.enter(m.Payload, id, time.Now(), "the subscriber of Mosquitto")
}

// catchUp waits for a message of our own to come back: what came before it is in the book then.
func (e *ear) catchUp(ctx context.Context) error {
	e.mu.Lock()
	e.marks++
	n := e.marks
	e.mu.Unlock()
	mark := packets.NewControlPacket(packets.PUBLISH)
	m := mark.Content.(*packets.Publish)
	m.Topic, m.Payload = heardPrefix+"mark", fmt.Append(nil, n)
	if err := e.write(mark); err != nil {
		return err
	}
	return poll(ctx, time.Minute, func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.broken == nil && e.marked < n {
			return errors.New("it hears nothing")
		}
		return e.broken
	})
}
