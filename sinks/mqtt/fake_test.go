package mqttsink

import (
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	mochipackets "github.com/mochi-mqtt/server/v2/packets"

	"github.com/postrider/postrider/sinks"
)

// says is a broker that answers messages by their topics, and takes those for which it has no answer.
type says struct {
	mochi.HookBase
	answers map[string]mochipackets.Code
}

// ID implements mochi.Hook.
func (*says) ID() string { return "says" }

// Provides implements mochi.Hook.
func (*says) Provides(b byte) bool {
	return b == mochi.OnPublish || b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}

// OnConnectAuthenticate lets everybody in.
func (*says) OnConnectAuthenticate(*mochi.Client, mochipackets.Packet) bool { return true }

// OnACLCheck allows all.
func (*says) OnACLCheck(*mochi.Client, string, bool) bool { return true }

// OnPublish answers.
func (s *says) OnPublish(_ *mochi.Client, p mochipackets.Packet) (mochipackets.Packet, error) {
	if code, ok := s.answers[p.TopicName]; ok {
		return p, code
	}
	return p, nil
}

// startSaying starts such a broker.
func startSaying(t *testing.T, answers map[string]mochipackets.Code, capabilities *mochi.Capabilities) sinks.Target {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler), Capabilities: capabilities})
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	for _, err := range []error{server.AddHook(&says{answers: answers}, nil), server.AddListener(listener), server.Serve()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return sinks.Target{URL: "mqtt://" + listener.Address()}
}

// fake is a broker that does what a test tells it to, to each who comes.
type fake struct {
	t        testing.TB
	listener net.Listener
	all      sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

// startFake starts one that greets, unless greeting is nil, and then hands the connection to serve.
func startFake(t *testing.T, greeting *packets.Connack, serve func(c net.Conn)) sinks.Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, listener: l}
	f.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			f.all.Go(func() { f.greet(c, greeting, serve) })
		}
	})
	t.Cleanup(f.stop)
	return sinks.Target{URL: "mqtt://" + l.Addr().String()}
}

func (f *fake) greet(c net.Conn, greeting *packets.Connack, serve func(c net.Conn)) {
	defer c.Close()
	if _, err := packets.ReadPacket(c); err != nil {
		return
	}
	if greeting != nil {
		if _, err := greeting.WriteTo(c); err != nil {
			return
		}
	}
	serve(c)
}

func (f *fake) stop() {
	f.listener.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.all.Wait()
}

// welcome is a greeting with these properties.
func welcome(p packets.Properties) *packets.Connack { return &packets.Connack{Properties: &p} }

// each calls do with each message, until the connection ends.
func each(c net.Conn, do func(p *packets.Publish)) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		if message, ok := p.Content.(*packets.Publish); ok {
			do(message)
		}
	}
}

func acknowledge(w io.Writer, p *packets.Publish) {
	_, _ = (&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}}).WriteTo(w) // whoever is gone needs none
}
