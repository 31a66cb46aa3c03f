package mqttsink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/brokertest"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a mosquitto of a test's own, with a network in front, and somebody who is subscribed to everything.
type broker struct {
	*brokertest.Server
	t       testing.TB
	dir     string
	tlsPort string
	link    *linktest.InTest
	ear     *ear // nil: nobody is subscribed
}

// patience is for a machine that has other things to do.
const patience = 3 * sinktest.Patience

// startBroker starts one with lines of configuration besides its own.
func startBroker(t *testing.T, lines ...string) *broker {
	t.Helper()
	program, err := brokertest.FindMosquitto()
	if err != nil {
		t.Skipf("NOT TESTED, Mosquitto: %v", err)
	}
	b := &broker{t: t, dir: t.TempDir(), tlsPort: freePorts(t, 1)[0]}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("users", "") // for those whose configuration names them
	b.write("acl", "")
	if b.Server, err = brokertest.StartMosquitto(program, b.dir, lines...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	b.link = linktest.New(t, b.Addr())
	return b
}

// listening has somebody subscribe to everything.
func (b *broker) listening() *broker {
	b.t.Helper()
	b.ear = listen(b.t, b.Addr())
	return b
}

func freePorts(t testing.TB, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

func (b *broker) file(name string) string { return filepath.Join(b.dir, name) }

func (b *broker) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.file(name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// restart starts one that was killed.
func (b *broker) restart() {
	b.t.Helper()
	if err := b.Restart(); err != nil {
		b.t.Fatal(err)
	}
}

// ear is subscribed to everything.
type ear struct {
	t      testing.TB
	client *paho.Client
	marker string
	mu     sync.Mutex
	got    []*paho.Publish
	marked chan string
	n      int
}

func listen(t testing.TB, addr string) *ear {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	e := &ear{t: t, marker: "marker/of/the/ear", marked: make(chan string, 16)}
	e.client = paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: patience, OnPublishReceived: []func(paho.PublishReceived) (bool, error){e.hear}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := e.client.Connect(ctx, &paho.Connect{ClientID: "ear", CleanStart: true, KeepAlive: 60}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.client.Disconnect(&paho.Disconnect{}) // the broker may be gone
		<-e.client.Done()
	})
	if _, err := e.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "#", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *ear) hear(p paho.PublishReceived) (bool, error) {
	if p.Packet.Topic == e.marker {
		e.marked <- string(p.Packet.Payload)
		return true, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, p.Packet)
	return true, nil
}

// heard is all that the broker has taken so far: what comes behind that is a message of our own.
func (e *ear) heard() []*paho.Publish {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e.n++
	if _, err := e.client.Publish(ctx, &paho.Publish{Topic: e.marker, QoS: 1, Payload: fmt.Append(nil, e.n)}); err != nil {
		e.t.Fatal(err)
	}
	for {
		select {
		case text := <-e.marked:
			if text == fmt.Sprint(e.n) {
				e.mu.Lock()
				defer e.mu.Unlock()
				return e.got
			}
		case <-ctx.Done():
			e.t.Fatal("the subscriber hears nothing")
		}
	}
}

func (b *broker) received() (list []sinktest.Received) {
	b.t.Helper()
	for _, p := range b.ear.heard() {
		r := sinktest.Received{Topic: strings.ReplaceAll(p.Topic, "/", "."), Payload: p.Payload, ContentType: p.Properties.ContentType, Headers: map[string]string{}}
		for _, u := range p.Properties.User {
			r.Headers[strings.ToLower(u.Key)] = u.Value
		}
		r.MessageID, r.Subscription = r.Headers["id"], r.Headers["postrider-subscription"]
		var err error
		if r.Key, err = url.PathUnescape(r.Headers["postrider-key"]); err != nil {
			b.t.Error(err)
		}
		if _, err := fmt.Sscan(r.Headers["postrider-attempt"], &r.Attempt); err != nil {
			b.t.Errorf("attempt %q: %v", r.Headers["postrider-attempt"], err)
		}
		list = append(list, r)
	}
	return list
}

func (b *broker) target(options string) sinks.Target {
	return sinks.Target{URL: "mqtt://" + b.link.Addr(), Options: json.RawMessage(options)}
}

func open(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), target, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// to opens a sink that the test's end closes.
func to(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink := open(t, target)
	t.Cleanup(func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	})
	return sink
}

func (b *broker) open(options string) sinks.Sink { return to(b.t, b.target(options)) }

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		b := startBroker(t, "max_packet_size 1048576").listening()
		return &sinktest.Harness{
			Open:     func(t testing.TB) sinks.Sink { return open(t, b.target("")) },
			Received: b.received,
			TooLarge: 1 << 20,
			Down:     b.link.Down, Hang: b.link.Hang, Up: b.link.Up,
		}
	})
}
