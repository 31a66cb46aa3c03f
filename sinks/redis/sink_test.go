package redissink

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func (s *server) deliver(sink sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(s.t.Context(), sink, batch...)
}

func batchOf(topics ...string) (list []sinks.Delivery) {
	for i, topic := range topics {
		list = append(list, sinktest.NewDelivery(topic, fmt.Sprintf(`{"n": %d}`, i)))
	}
	return list
}

// Without a stream each message goes to the one of its topic. An error of one command in the pipeline is that message's alone.
func TestOneErrorWithinAPipeline(t *testing.T) {
	s := startServer(t)
	s.do("SET", "p.b", "a string")
	sink := s.to("?prefix=p.", "")
	got := s.deliver(sink, batchOf("a", "b", "c", "a")...)
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindMisconfigured, sinks.KindAccepted, sinks.KindAccepted)
	sinktest.WantText(t, got[1], sinks.KindMisconfigured, "WRONGTYPE", "holds something else")
	if n := len(s.received("p.a", "p.c")); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
	s.do("DEL", "p.b")
	sinktest.WantKinds(t, s.deliver(sink, batchOf("b")...), sinks.KindAccepted)
}

// What somebody has to change is told apart from a server that cannot work now.
func TestOutcomes(t *testing.T) {
	s := startServer(t)
	t.Setenv("POSTRIDER_SECRET_R", "hunter22")
	t.Setenv("POSTRIDER_SECRET_W", "wrong-one")
	s.do("ACL", "SETUSER", "joe", "on", ">hunter22", "~mine", "+@connection", "+acl|whoami", "+acl|dryrun", "+cluster")
	s.do("SET", "text", "x")
	for _, c := range []struct {
		query, options string
		kind           sinks.Kind
		words          string
	}{
		{"?stream=text", "", sinks.KindMisconfigured, "WRONGTYPE"},
		{"?stream=mine", `{"user": "joe", "password": "env:POSTRIDER_SECRET_W"}`, sinks.KindMisconfigured, "WRONGPASS"},
		{"?stream=mine", `{"user": "joe", "password": "env:POSTRIDER_SECRET_R"}`, sinks.KindMisconfigured, "+xadd"},
		{"/99?stream=mine", "", sinks.KindMisconfigured, "DB index is out of range"},
		{"?stream=mine", `{"guard": {"deny": ["127.0.0.0/8"]}}`, sinks.KindMisconfigured, "options.guard.allow"},
	} {
		sink := s.open(t, c.query, c.options)
		sinktest.WantText(t, s.deliver(sink, batchOf("a")...)[0], c.kind, c.words)
		sink.Close()
		err := Destination.Examine(t.Context(), sinks.Target{URL: s.url(c.query), Options: []byte(c.options)})
		if _, unfit := errors.AsType[*sinks.UnfitError](err); !unfit {
			t.Errorf("%s %s: examined: %v, want an UnfitError", c.query, c.options, err)
		}
	}
	s.do("ACL", "SETUSER", "joe", "+xadd")
	sink := s.to("?stream=mine", `{"user": "joe", "password": "env:POSTRIDER_SECRET_R"}`)
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	if err := Destination.Examine(t.Context(), sinks.Target{URL: s.url("?stream=mine"), Options: []byte(`{"user": "joe", "password": "env:POSTRIDER_SECRET_R"}`)}); err != nil {
		t.Errorf("examined: %v", err)
	}
	s.do("CONFIG", "SET", "maxmemory", "1")
	sinktest.WantText(t, s.deliver(sink, batchOf("a")...)[0], sinks.KindUnavailable, "OOM")
	s.do("CONFIG", "SET", "maxmemory", "0")
	s.do("REPLICAOF", "127.0.0.1", "1")
	sinktest.WantText(t, s.deliver(sink, batchOf("a")...)[0], sinks.KindUnavailable, "READONLY")
	s.do("REPLICAOF", "NO", "ONE")
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	if n := len(s.received("mine")); n != 2 {
		t.Errorf("%d entries, want the 2 that were confirmed", n)
	}
}

// A login that is refused counts as a failure, beside the connection that it was refused on.
func TestRefusedLoginsAreCounted(t *testing.T) {
	s := startServer(t)
	t.Setenv("POSTRIDER_SECRET_R", "hunter22")
	t.Setenv("POSTRIDER_SECRET_W", "wrong-one")
	s.do("ACL", "SETUSER", "joe", "on", ">hunter22", "~mine", "+xadd", "+auth")
	s.do("ACL", "SETUSER", "default", "-ping") // who is let in may be allowed little
	refused := func(query, options, words string) {
		t.Helper()
		var meter sinks.Meter
		sinktest.WantText(t, s.deliver(s.metered(query, options, &meter), batchOf("a")...)[0], sinks.KindMisconfigured, words)
		if got := meter.Read(); got.ConnectFailures == 0 {
			t.Errorf("%s: %d connections and %d failures are counted, want a failure", words, got.Connections, got.ConnectFailures)
		}
	}
	refused("?stream=mine", `{"user": "joe", "password": "env:POSTRIDER_SECRET_W"}`, "WRONGPASS")
	refused("/99?stream=mine", "", "DB index is out of range")
	for _, options := range []string{"", `{"user": "joe", "password": "env:POSTRIDER_SECRET_R"}`} {
		var meter sinks.Meter
		sinktest.WantKinds(t, s.deliver(s.metered("?stream=mine", options, &meter), batchOf("a")...), sinks.KindAccepted)
		if got := meter.Read(); got.Connections == 0 || got.ConnectFailures != 0 {
			t.Errorf("%s: %d connections and %d failures are counted, want connections alone", options, got.Connections, got.ConnectFailures)
		}
	}
	var meter sinks.Meter
	sink := s.metered("?stream=mine", `{"user": "joe", "password": "env:POSTRIDER_SECRET_R"}`, &meter)
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	s.do("ACL", "SETUSER", "joe", "resetpass", ">another")
	s.do("CLIENT", "KILL", "USER", "joe")
	for deadline := time.Now().Add(time.Minute); meter.Read().ConnectFailures == 0; { // the first one may find its connection closed
		if time.Now().After(deadline) {
			t.Fatal("a refused login of the client's next connection is not counted")
		}
		s.deliver(sink, batchOf("b")...)
	}
	s.do("CONFIG", "SET", "requirepass", "hunter22")
	refused("?stream=mine", "", "NOAUTH")
}

// A server that is none of Redis is as good as none.
func TestNoneOfRedis(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 mail.example.com ESMTP\r\n")
			conn.Close()
		}
	}()
	sink, err := Destination.Open(t.Context(), sinks.Target{URL: "redis://" + l.Addr().String()}, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	outcome := sinktest.Deliver(t.Context(), sink, batchOf("a")...)[0]
	sinktest.WantText(t, outcome, sinks.KindUnavailable, "unknown message type")
}

// What got no answer was not confirmed, though it is there: it comes again, with the same id.
func TestLostAnswers(t *testing.T) {
	s := startServer(t)
	sink := s.to("?stream=all", "")
	sinktest.WantKinds(t, s.deliver(sink, batchOf("warm")...), sinks.KindAccepted)
	s.link.HalfOpen(linktest.ToClient)
	d := sinktest.NewDelivery("lost", "{}")
	done := make(chan []error, 1)
	go func() { done <- s.deliver(sink, d) }()
	for deadline := time.Now().Add(sinktest.Patience); len(s.received("all")) < 2; {
		if time.Now().After(deadline) {
			t.Fatal("it does not arrive")
		}
	}
	s.link.Down()
	sinktest.WantKinds(t, <-done, sinks.KindUnavailable)
	s.link.Up()
	sinktest.WantKinds(t, s.deliver(sink, d), sinks.KindAccepted)
	if got := s.received("all"); len(got) != 3 || got[1].MessageID != got[2].MessageID {
		t.Errorf("received %v", got)
	}
}

// A server that is killed and started again gets on where it was; nothing that was confirmed is gone.
func TestKilledServer(t *testing.T) {
	s := startServer(t)
	sink := s.to("?stream=all", "")
	sinktest.WantKinds(t, s.deliver(sink, batchOf("a", "b")...), sinks.KindAccepted, sinks.KindAccepted)
	s.Kill()
	sinktest.WantKinds(t, s.deliver(sink, batchOf("c")...), sinks.KindUnavailable)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(sinktest.Patience); s.deliver(sink, batchOf("d")...)[0] != nil; {
		if time.Now().After(deadline) {
			t.Fatal("it does not recover")
		}
	}
	if got := s.received("all"); len(got) != 3 {
		t.Errorf("%d entries, want 3", len(got))
	}
}

// A cluster has each stream where it belongs; whoever names one server of it is told to name more.
func TestCluster(t *testing.T) {
	a, b := startServer(t, "--cluster-enabled", "yes"), startServer(t, "--cluster-enabled", "yes")
	a.do("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
	b.do("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
	a.do("CLUSTER", "MEET", "127.0.0.1", strings.TrimPrefix(b.Addr(), "127.0.0.1:"))
	for _, s := range []*server{a, b} {
		for deadline := time.Now().Add(sinktest.Patience); !strings.Contains(s.do("CLUSTER", "INFO"), "cluster_state:ok"); {
			if time.Now().After(deadline) {
				t.Fatal("the cluster is not up")
			}
		}
	}
	var topics []string
	for i := range 40 {
		topics = append(topics, fmt.Sprintf("t%d", i))
	}
	sink, err := Destination.Open(t.Context(), sinks.Target{URL: "redis://" + a.Addr() + "," + b.Addr()}, sinks.Surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range a.deliver(sink, batchOf(topics...)...) {
		if err != nil {
			t.Error(err)
		}
	}
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
	here, there := a.do("DBSIZE"), b.do("DBSIZE")
	var n, m int
	if _, err := fmt.Sscan(here+" "+there, &n, &m); err != nil || n+m != 40 || n == 0 || m == 0 {
		t.Errorf("%s and %s streams, want 40 on both together", here, there)
	}
	var moved error
	for _, err := range a.deliver(a.to("", ""), batchOf(topics...)...) {
		if err != nil {
			moved = err
		}
	}
	sinktest.WantText(t, moved, sinks.KindMisconfigured, "MOVED", "name two of its servers")
}

// A bound on the stream has the oldest dropped; a message that is too large goes nowhere, and alone.
func TestBounds(t *testing.T) {
	s := startServer(t, "--stream-node-max-entries", "10", "--proto-max-bulk-len", "1mb")
	sink := s.to("?stream=all", `{"max_len": 20, "max_message_bytes": 1000}`)
	for range 10 {
		for _, err := range s.deliver(sink, batchOf("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")...) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(s.received("all")); n < 20 || n >= 40 {
		t.Errorf("%d entries, want about 20", n)
	}
	got := s.deliver(sink, sinktest.NewDelivery("a", "1"), sinktest.NewDelivery("a", `"`+strings.Repeat("x", 1000)+`"`), sinktest.NewDelivery("a", "3"))
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindPermanent, sinks.KindAccepted)
	sinktest.WantText(t, got[1], sinks.KindPermanent, "1002 bytes", "max_message_bytes is 1000")
}

// What is wrong with a target is said with the setting, and what would be right.
func TestBadTargets(t *testing.T) {
	for _, c := range []struct{ url, options, want string }{
		{"redis://joe:hunter22@h", "", "references"}, {"redis://", "", "names no host"}, {"redis://h:0", "", "from 1 to 65535"}, {"redis://h/x", "", "must be a number"},
		{"redis://h?stram=x", "", `"stram"`}, {"redis://h?stream=x&stream=y", "", "twice"}, {"redis://h?stream=x", `{"stream": "y"}`, "twice"},
		{"redis://h?stream=x&prefix=y", "", "one of them"}, {"redis://h#x", "", "redis://host"}, {"redis:h", "", "redis://host"},
		{"redis://h", `{"max_len": -1}`, "above zero"}, {"redis://h", `{"max_message_bytes": -1}`, "above zero"}, {"redis://h", `{"user": "joe"}`, "no password"},
		{"redis://h", `{"password": "hunter22"}`, "password"}, {"redis://h", `{"tls": {"ca": "x"}}`, "absolute path"}, {"redis://h", `{"tls": {"min_version": "1.1"}}`, "1.2 or 1.3"},
		{"redis://h", `{"tls": {"cert": "/x"}}`, "takes both"}, {"redis://h", `{"guard": {"deny": ["x"]}}`, "CIDR"}, {"redis://h", `{"steam": "x"}`, "steam"},
	} {
		err := Destination.Check(sinks.Target{URL: c.url, Options: []byte(c.options)}, nil)
		want := c.want
		if want == "references" {
			want = "reference"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s: %v, want %q in it", c.url, c.options, err, want)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s %s: the password shows: %v", c.url, c.options, err)
		}
	}
	for _, good := range []string{"redis://h", "rediss://[::1]:7000,10.0.0.1/3?prefix=p."} {
		if err := Destination.Check(sinks.Target{URL: good}, nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
