package mqttsink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/postrider/postrider/sinks/internal/wire"
)

const (
	// greetTimeout bounds the protocol's greetings.
	greetTimeout = 10 * time.Second
	// maxAnswer is how large a packet of the broker may be, in bytes: we subscribe to nothing.
	maxAnswer = 64 << 10
)

// refusal is what a broker says when it lets nobody in, or ends a connection.
type refusal struct {
	code   byte
	reason string
	while  string
}

// Error says so.
func (r *refusal) Error() string {
	text := r.while + ": " + codeText(r.code)
	if r.reason != "" {
		text += ": " + r.reason
	}
	return text
}

// greet makes a connection one of MQTT.
func (d *dialer) greet(ctx context.Context, w *wire.Conn) (*link, error) {
	l := &link{wire: w, in: bufio.NewReader(w), buffer: bufio.NewWriterSize(w, 64<<10), waiting: make(map[uint16]*waiting), done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, w.Reset)
	answer, err := l.introduce(d.hello())
	if !stop() && err != nil {
		return nil, errors.Join(errNoAnswer, ctx.Err())
	}
	if err != nil {
		return nil, w.Explain(err)
	}
	if l.limits, err = d.limitsOf(answer); err != nil {
		return nil, err
	}
	l.out = make(chan struct{}, l.limits.out)
	l.silently = errors.New("the broker ended the connection")
	if d.given != "" {
		l.silently = errors.New("the broker ended the connection: another client may have the same client_id")
	}
	l.beat.Go(l.ping)
	go l.read()
	return l, nil
}

var errNoAnswer = errors.New("no answer to CONNECT in time")

// hello is the packet that says who we are.
func (d *dialer) hello() *packets.Connect {
	most := uint32(maxAnswer)
	hello := &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: d.ClientID, CleanStart: true, KeepAlive: uint16(keepAlive / time.Second),
		Properties: &packets.Properties{MaximumPacketSize: &most}}
	if user := d.userName(); user != "" {
		hello.UsernameFlag, hello.Username = true, user
	}
	if d.password != nil {
		hello.PasswordFlag, hello.Password = true, []byte(d.password.Get(time.Now()))
	}
	return hello
}

func (l *link) introduce(hello *packets.Connect) (*packets.Connack, error) {
	if _, err := hello.WriteTo(l.wire); err != nil {
		return nil, err
	}
	if first, err := l.in.Peek(1); err != nil {
		return nil, err
	} else if first[0] != packets.CONNACK<<4 {
		return nil, errNoMQTT
	}
	p, err := l.next()
	if err != nil {
		return nil, err
	}
	answer := p.Content.(*packets.Connack)
	if answer.ReasonCode >= 0x80 {
		return nil, &refusal{answer.ReasonCode, reasonOf(answer.Properties), "the broker does not let us in"}
	}
	return answer, nil
}

func reasonOf(p *packets.Properties) string {
	if p == nil {
		return ""
	}
	if p.ServerReference != "" {
		return p.ReasonString + " (" + p.ServerReference + ")"
	}
	return p.ReasonString
}

// next reads a packet, if it is none that is too large.
func (l *link) next() (*packets.ControlPacket, error) {
	length, shift, n := 0, 0, 1
	for ; ; n++ {
		head, err := l.in.Peek(n + 1)
		if err != nil {
			return nil, err
		}
		length |= int(head[n]&0x7F) << shift
		if head[n] < 0x80 {
			if head[0]>>4 == packets.CONNACK && length == 2 {
				return nil, errOld
			}
			break
		}
		if shift += 7; n == 4 {
			return nil, errNoMQTT
		}
	}
	if length > maxAnswer {
		return nil, fmt.Errorf("the broker sent a packet of %d bytes to one who is subscribed to nothing", length)
	}
	return packets.ReadPacket(l.in)
}

var (
	errNoMQTT = errors.New("what answers there does not speak MQTT")
	errOld    = errors.New("the broker does not speak MQTT 5")
)
