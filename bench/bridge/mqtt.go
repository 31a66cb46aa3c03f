package bridge

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
)

// mosquitto is a mosquitto.
type mosquitto struct {
	ear
	process *child.Process
	address string
}

var _ Server = (*mosquitto)(nil)

func startMosquitto(ctx context.Context, dir string) (Server, error) {
	path, err := program("mosquitto", "mosquitto")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\nlog_type error\n"
	if os.Geteuid() == 0 {
		text = "user root\n" + text
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	m := &mosquitto{address: "127.0.0.1:" + port}
	m.process, err = child.Start(ctx, child.Spec{
		Name: "mosquitto", Log: filepath.Join(dir, "mosquitto.log"), Cmd: exec.CommandContext(context.WithoutCancel(ctx), path, "-c", conf),
		Poll: func(ctx context.Context) error { return accepts(ctx, m.address) },
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Fresh implements Server. A new subscriber is there from then on: without one nothing is taken.
func (m *mosquitto) Fresh(ctx context.Context) (string, error) { return m.address, m.Listen(ctx) }

// PIDs implements Server.
func (m *mosquitto) PIDs() []int { return []int{m.process.PID()} }

// Count implements Server: the broker does not say.
func (m *mosquitto) Count(ctx context.Context) (int64, error) { return m.Arrived(ctx) }

// Listen implements Server: it subscribes to everything.
func (m *mosquitto) Listen(ctx context.Context) error {
	conn, in, err := greetMQTT(ctx, m.address)
	if err != nil {
		return err
	}
	subscribe := &packets.Subscribe{PacketID: 1, Properties: &packets.Properties{}, Subscriptions: []packets.SubOptions{{Topic: "#", QoS: 0}}}
	if _, err := subscribe.WriteTo(conn); err != nil {
		return errors.Join(err, conn.Close())
	}
	if _, err := packets.ReadPacket(in); err != nil {
		return errors.Join(err, conn.Close())
	}
	ended := make(chan struct{})
	a := m.listen(func() {
		_ = conn.Close() // the broker may have ended it
		<-ended
	})
	go func() {
		defer close(ended)
		hear(in, a)
	}()
	return nil
}

// hear takes down what comes, until the connection ends. It reads no more of a packet than its length and its message's number, so that the
// subscriber is not what the broker waits for.
func hear(in *bufio.Reader, a *env.Arrivals) {
	var packet []byte
	for {
		if _, err := in.ReadByte(); err != nil {
			return
		}
		length, err := binary.ReadUvarint(in) // the same bytes as MQTT's own
		if err != nil {
			return
		}
		packet = append(packet[:0], make([]byte, length)...)
		if _, err := io.ReadFull(in, packet); err != nil {
			return
		}
		note(a, packet)
	}
}

// greetMQTT connects, without a keep-alive.
func greetMQTT(ctx context.Context, address string) (net.Conn, *bufio.Reader, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	hello := &packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: true, Properties: &packets.Properties{}}
	if _, err := hello.WriteTo(conn); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	in := bufio.NewReaderSize(conn, 256<<10)
	answer, err := packets.ReadPacket(in)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	if ack, ok := answer.Content.(*packets.Connack); !ok || ack.ReasonCode != 0 {
		return nil, nil, errors.Join(fmt.Errorf("the broker answers CONNECT with %v", answer), conn.Close())
	}
	return conn, in, nil
}

// Stop implements Server.
func (m *mosquitto) Stop() error {
	m.end()
	return m.process.Stop()
}

func mosquittoSink(at string) Sink { return Sink{URL: "mqtt://" + at} }

// publisher is one connection that publishes at QoS 1, with the packets of the library: its client has one message out for each goroutine.
type publisher struct {
	conn    net.Conn
	mu      sync.Mutex // held while something is written, too
	out     *bufio.Writer
	last    uint16
	waiting map[uint16]*sync.WaitGroup
	ended   chan struct{}
}

// mosquittoLoop publishes four batches at once over one connection.
func mosquittoLoop(ctx context.Context, o order) (*batches, error) {
	conn, in, err := greetMQTT(ctx, o.at)
	if err != nil {
		return nil, err
	}
	p := &publisher{conn: conn, out: bufio.NewWriterSize(conn, 64<<10), waiting: make(map[uint16]*sync.WaitGroup), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		if err := p.read(in); ctx.Err() == nil {
			o.fail(fmt.Errorf("read PUBACK: %w", err))
		}
	}()
	send := func(ctx context.Context, batch []item) error { return p.send(ctx, batch, o.attributes) }
	closed := func() error {
		err := conn.Close()
		<-p.ended
		return err
	}
	return newBatches(ctx, o, 256, closed, same(4, send)...), nil
}

// read counts answers off.
func (p *publisher) read(in *bufio.Reader) error {
	for {
		packet, err := packets.ReadPacket(in)
		if err != nil {
			return err
		}
		ack, ok := packet.Content.(*packets.Puback)
		if !ok || ack.ReasonCode != 0 {
			return fmt.Errorf("the broker sent %v", packet)
		}
		p.mu.Lock()
		batch := p.waiting[ack.PacketID]
		delete(p.waiting, ack.PacketID)
		p.mu.Unlock()
		batch.Done()
	}
}

func (p *publisher) send(ctx context.Context, batch []item, attributes bool) error {
	var waiting sync.WaitGroup
	waiting.Add(len(batch))
	for _, m := range batch {
		packet := &packets.Publish{Topic: "bench/t1", QoS: 1, Payload: m.payload, Properties: &packets.Properties{User: []packets.User{{Key: "id", Value: m.id}}}}
		if attributes {
			packet.Properties.ContentType = mediaType
			packet.Properties.User = append(packet.Properties.User, packets.User{Key: "specversion", Value: "1.0"}, packets.User{Key: "source", Value: source},
				packets.User{Key: "type", Value: topic}, packets.User{Key: "time", Value: created()}, packets.User{Key: "postrider-subscription", Value: subscription},
				packets.User{Key: "postrider-attempt", Value: "1"})
		}
		if err := p.write(packet, &waiting); err != nil {
			return err
		}
	}
	p.mu.Lock()
	err := p.out.Flush()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	answered := make(chan struct{})
	go func() { waiting.Wait(); close(answered) }()
	select {
	case <-answered:
		return nil
	case <-p.ended:
		return errors.New("the broker ended the connection")
	case <-time.After(sendTimeout):
		return errors.New("no answer in time")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *publisher) write(packet *packets.Publish, batch *sync.WaitGroup) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.last++; p.last != 0 && p.waiting[p.last] == nil {
			break
		}
	}
	packet.PacketID = p.last
	p.waiting[p.last] = batch
	_, err := packet.WriteTo(p.out)
	return err
}
