package natssink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// eventually delivers until the message is accepted.
func eventually(t *testing.T, s sinks.Sink, d sinks.Delivery) {
	t.Helper()
	deadline := time.Now().Add(sinktest.Patience)
	for {
		err := deliver(t, s, d)[0]
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not accepted within %v: %v", sinktest.Patience, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestOpensWhileDown(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})
	link := linktest.New(t, srv.Addr().String())
	link.Down()
	s := open(t, Config{Servers: []string{"nats://" + link.Addr()}})
	wantReason(t, deliver(t, s, sinktest.NewDelivery("a", "1"))[0], sinks.KindUnavailable, "NATS is not connected")
	link.Up()
	eventually(t, s, sinktest.NewDelivery("a", "2"))
}

func TestNewEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // Accepts, and never says a word.
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, Config{Servers: []string{"nats://" + l.Addr().String()}}); !errors.Is(err, context.Canceled) {
		t.Errorf("New under a cancelled context: %v", err)
	}
}

// A message that was reported as failed must not arrive by itself when the connection is back.
func TestNothingIsBuffered(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	r := &reader{t: t, stream: addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})}
	link := linktest.New(t, srv.Addr().String())
	s := open(t, Config{Servers: []string{"nats://" + link.Addr()}})
	eventually(t, s, sinktest.NewDelivery("a", "1"))
	c, err := s.link.get()
	if err != nil {
		t.Fatal(err)
	}
	link.Down()
	for c.nc.IsConnected() {
		time.Sleep(time.Millisecond)
	}
	failed, outcomes := sinktest.NewDelivery("a", "2"), make([]error, 1)
	// As if the connection had broken after Deliver looked at it.
	s.publish(t.Context(), c, []sinks.Delivery{failed}, outcomes)
	sinktest.WantKinds(t, outcomes, sinks.KindUnavailable)
	sinktest.WantKinds(t, deliver(t, s, failed), sinks.KindUnavailable)
	link.Up()
	eventually(t, s, sinktest.NewDelivery("a", "3"))
	for _, m := range r.read() {
		if m.MessageID == failed.MessageID {
			t.Error("a message that had failed arrived after the reconnect")
		}
	}
}

func TestNoAcknowledgementInTime(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})
	link := linktest.New(t, srv.Addr().String())
	s := open(t, Config{Servers: []string{"nats://" + link.Addr()}, AckTimeout: 300 * time.Millisecond})
	eventually(t, s, sinktest.NewDelivery("a", "1"))
	link.Hang()
	wantReason(t, deliver(t, s, sinktest.NewDelivery("a", "2"))[0], sinks.KindUnavailable, "timeout")
	link.Up()
	eventually(t, s, sinktest.NewDelivery("a", "3"))
}

func TestConnectionLostBeforeTheAcknowledgement(t *testing.T) {
	for _, core := range []bool{false, true} {
		srv := startServer(t, nil)
		_, js := client(t, srv)
		addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})
		link := linktest.New(t, srv.Addr().String())
		s := open(t, Config{Servers: []string{"nats://" + link.Addr()}, Core: core, AckTimeout: time.Minute})
		eventually(t, s, sinktest.NewDelivery("a", "1"))
		link.Hang()
		out := make(chan []error)
		go func() { out <- deliver(t, s, sinktest.NewDelivery("a", "2"), sinktest.NewDelivery("a", "3")) }()
		for c, _ := s.link.get(); c.nc.Stats().OutMsgs < 3; {
			time.Sleep(time.Millisecond)
		}
		link.Down()
		link.Up()
		failed := <-out
		sinktest.WantKinds(t, failed, sinks.KindUnavailable, sinks.KindUnavailable)
		if !core {
			wantReason(t, failed[0], sinks.KindUnavailable, nats.ErrDisconnected.Error())
		}
		eventually(t, s, sinktest.NewDelivery("a", "4"))
	}
}

func TestFlushOverANewConnectionConfirmsNothing(t *testing.T) {
	link := linktest.New(t, startServer(t, nil).Addr().String())
	s := open(t, Config{Servers: []string{"nats://" + link.Addr()}, Core: true})
	c, err := s.link.get()
	if err != nil {
		t.Fatal(err)
	}
	before := c.nc.Stats().Reconnects
	if err := s.flush(t.Context(), c, before); err != nil {
		t.Fatal(err)
	}
	link.Reset()
	for c.nc.Stats().Reconnects == before {
		time.Sleep(time.Millisecond)
	}
	if err := s.flush(t.Context(), c, before); !errors.Is(err, nats.ErrDisconnected) {
		t.Errorf("flush after a reconnect: %v", err)
	}
}

// Some errors of the server make the client library give its connection up for good.
func TestConnectionGivenUpIsReplaced(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})
	s := open(t, Config{Servers: []string{srv.ClientURL()}})
	c, err := s.link.get()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.nc.Publish(strings.Repeat("x", 5000), nil); err != nil {
		t.Fatal(err)
	}
	<-c.closed
	eventually(t, s, sinktest.NewDelivery("a", "1"))
}

func TestWrongPasswordMendsItself(t *testing.T) {
	users := func(password string) []*server.User { return []*server.User{{Username: "joe", Password: password}} }
	var opts *server.Options
	srv := startServer(t, func(o *server.Options) { o.Users = users("other"); o.JetStream = false; opts = o })
	s := open(t, Config{Servers: []string{"nats://joe:secret@" + srv.Addr().String()}, Core: true})
	first := s.link.cur
	deadline := time.Now().Add(sinktest.Patience)
	for { // The third refusal on end is one more than the client library bears by default.
		err := deliver(t, s, sinktest.NewDelivery("a", "1"))[0]
		kind, _ := sinks.Classify(err)
		if refused := strings.Contains(err.Error(), "Authorization"); !kind.Unavailable() || refused != (kind == sinks.KindMisconfigured) {
			t.Fatalf("%v is %v", err, kind)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Fatalf("the reason shows the password: %v", err)
		}
		if v, _ := srv.Varz(nil); v.TotalConnections > 3 && strings.Contains(err.Error(), "Authorization") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the reason does not speak of the authorization: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	mended := opts.Clone()
	mended.Port, mended.Users = srv.Addr().(*net.TCPAddr).Port, users("secret")
	if err := srv.ReloadOptions(mended); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, sinktest.NewDelivery("a", "2"))
	if s.link.cur != first {
		t.Error("the connection was given up in between")
	}
}

func TestSubjectWithoutPermission(t *testing.T) {
	for _, core := range []bool{false, true} {
		srv := startServer(t, func(o *server.Options) {
			o.Users = []*server.User{{Username: "joe", Password: "pw", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"secret.>"}},
			}}, {Username: "admin", Password: "pw"}}
		})
		address := srv.Addr().String()
		admin := open(t, Config{Servers: []string{"nats://admin:pw@" + address}})
		c, err := admin.link.get()
		if err != nil {
			t.Fatal(err)
		}
		addStream(t, c.js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"secret.>", "open.>"}})
		s := open(t, Config{Servers: []string{"nats://joe:pw@" + address}, Core: core, AckTimeout: time.Second})
		out := deliver(t, s, sinktest.NewDelivery("open.a", "1"), sinktest.NewDelivery("secret.a", "2"), sinktest.NewDelivery("open.b", "3"))
		sinktest.WantKinds(t, out, sinks.KindAccepted, sinks.KindMisconfigured, sinks.KindAccepted)
		wantReason(t, out[1], sinks.KindMisconfigured, `Publish to "secret.a"`)
	}
}

// Permissions can change without a reconnect.
func TestEarlierRefusalIsForgotten(t *testing.T) {
	srv := startServer(t, nil)
	s := open(t, Config{Servers: []string{srv.ClientURL()}, Core: true})
	s.link.note(fmt.Errorf("%w: Permissions Violation for Publish to %q", nats.ErrPermissionViolation, "a.b"))
	if s.link.refusal("a.b") == nil {
		t.Fatal("the refusal was not noted")
	}
	sinktest.WantKinds(t, deliver(t, s, sinktest.NewDelivery("a.b", "1")), sinks.KindAccepted)
}

func TestPendingIsBounded(t *testing.T) {
	srv := startServer(t, nil)
	_, js := client(t, srv)
	r := &reader{t: t, stream: addStream(t, js, jetstream.StreamConfig{Name: "PG", Subjects: []string{"a"}})}
	link := linktest.New(t, srv.Addr().String())
	s := open(t, Config{Servers: []string{"nats://" + link.Addr()}, MaxPending: 7})
	batch := make([]sinks.Delivery, 20)
	for i := range batch {
		batch[i] = sinktest.NewDelivery("a", "1")
	}
	link.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan []error, 1)
	go func() { out <- sinktest.Deliver(ctx, s, batch...) }()
	c, err := s.link.get()
	if err != nil {
		t.Fatal(err)
	}
	for c.nc.Stats().OutMsgs < 7 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	for i, err := range <-out {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("outcome of message %d is %v, want the context's error", i, err)
		}
	}
	if n := c.nc.Stats().OutMsgs; n != 7 {
		t.Errorf("%d messages were pending, want 7", n)
	}
	link.Up()
	sinktest.WantKinds(t, deliver(t, s, batch...), make([]sinks.Kind, 20)...)
	if n := len(r.read()); n != 20 {
		t.Errorf("the stream holds %d messages, want 20", n)
	}
}
