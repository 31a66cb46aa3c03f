package webhook

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// nameServer is a DNS server on loopback that answers questions for A or AAAA records, whatever the name.
type nameServer struct {
	answer    func(n int) []netip.Addr // to the nth question for an A record, from 0
	answer6   []netip.Addr
	questions atomic.Int32
}

// resolver starts the server and returns a resolver that asks nobody else.
func (s *nameServer) resolver(t *testing.T) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(s.reply(buf[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// reply answers one question (RFC 1035, section 4). The names of all records point to that of the question.
func (s *nameServer) reply(q []byte) []byte {
	end := 12
	for q[end] != 0 {
		end += 1 + int(q[end])
	}
	end += 5 // the root label, type and class
	kind := binary.BigEndian.Uint16(q[end-4:])
	var addrs []netip.Addr
	switch kind {
	case 1:
		addrs = s.answer(int(s.questions.Add(1)) - 1)
	case 28:
		addrs = s.answer6
	}
	r := append([]byte(nil), q[:2]...)
	r = append(r, 0x81, 0x80, 0, 1, 0, byte(len(addrs)), 0, 0, 0, 0)
	r = append(r, q[12:end]...)
	for _, a := range addrs {
		r = append(r, 0xC0, 12)
		r = binary.BigEndian.AppendUint16(r, kind)
		r = append(r, 0, 1, 0, 0, 0, 0, 0, byte(a.BitLen()/8)) // class, time to live, length
		r = append(r, a.AsSlice()...)
	}
	return r
}

// twoReceivers listen on the same port of two loopback addresses, and count their connections.
func twoReceivers(t *testing.T) (port string, conns [2]*atomic.Int32) {
	for range 20 { // The port may be taken on the second address.
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(first.Addr().String())
		second, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil {
			first.Close()
			continue
		}
		for i, l := range []net.Listener{first, second} {
			n := new(atomic.Int32)
			conns[i] = n
			srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: new(receiver), ConnState: func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					n.Add(1)
				}
			}}}
			srv.Start()
			t.Cleanup(srv.Close)
		}
		return port, conns
	}
	t.Fatal("no port is free on 127.0.0.1 and 127.0.0.2")
	return "", conns
}

func TestGuardAgainstDNSThatChangesItsAnswer(t *testing.T) {
	port, conns := twoReceivers(t)
	good, bad := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	for name, answer := range map[string]func(n int) []netip.Addr{
		"one by one":        func(n int) []netip.Addr { return []netip.Addr{[]netip.Addr{good, bad}[n%2]} },
		"both, bad first":   func(int) []netip.Addr { return []netip.Addr{bad, good} },
		"both, good first":  func(int) []netip.Addr { return []netip.Addr{good, bad} },
		"good once only":    func(n int) []netip.Addr { return []netip.Addr{[]netip.Addr{good, bad}[min(n, 1)]} },
		"bad, also as IPv6": func(int) []netip.Addr { return []netip.Addr{bad} },
		"metadata at second": func(n int) []netip.Addr {
			return []netip.Addr{[]netip.Addr{good, netip.MustParseAddr("169.254.169.254")}[n%2]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := &nameServer{answer: answer}
			if strings.Contains(name, "IPv6") {
				ns.answer6 = []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.2"), netip.MustParseAddr("64:ff9b::a9fe:a9fe")}
			}
			s := open(t, Config{
				URL: "http://receiver.example:" + port, Resolver: ns.resolver(t), Timeout: 10 * time.Second,
				Options: Options{Guard: guard.Options{Deny: []string{"127.0.0.2/32"}}},
			})
			for range 8 {
				err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
				if kind, _ := sinks.Classify(err); err != nil && (kind != sinks.KindUnavailable || !strings.Contains(err.Error(), "refused by the guard")) {
					t.Errorf("outcome is %v: %v", kind, err)
				}
				s.transport.CloseIdleConnections() // so that the name is resolved again
			}
			if n := ns.questions.Load(); n < 8 {
				t.Errorf("%d questions reached the name server, want 8", n)
			}
			if n := conns[1].Load(); n != 0 {
				t.Fatalf("%d connections went to the address that is refused", n)
			}
		})
	}
	if n := conns[0].Load(); n < 20 {
		t.Errorf("%d connections went to the address that is allowed, want at least 20", n)
	}
}

// What a system's resolver makes of unusual spellings, a name server can answer as well.
func TestGuardWithTrickyHosts(t *testing.T) {
	metadata := netip.MustParseAddr("169.254.169.254")
	ns := &nameServer{answer: func(int) []netip.Addr { return []netip.Addr{metadata} }}
	res := ns.resolver(t)
	for _, host := range []string{
		"169.254.169.254", "169.254.169.254.", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "169.254.43518",
		"169.16689662", "0251.254.0xa9fe", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]",
		"[2002:a9fe:a9fe::]", "[fe80::1%25lo]", "[fd00:ec2::254]", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "metadata.google.internal", "ⓜetadata.example",
	} {
		s := open(t, Config{URL: "http://" + host + "/latest/meta-data", Resolver: res, Timeout: 5 * time.Second})
		out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
		sinktest.WantKinds(t, out, sinks.KindUnavailable)
		// Go takes the numeric ones for neither address nor name.
		if text := out[0].Error(); !strings.Contains(text, "refused by the guard") && !strings.HasSuffix(text, "no such host") {
			t.Errorf("%s: %v", host, out[0])
		}
	}
	if n := ns.questions.Load(); n < 3 {
		t.Errorf("%d names were looked up, want at least 3", n)
	}
}

// The system's own resolver may take such hosts for addresses.
func TestGuardWithTheSystemsResolver(t *testing.T) {
	port, conns := twoReceivers(t)
	for _, host := range []string{"2130706433", "0177.0.0.1", "127.1", "localhost", "127.0.0.1", "[::ffff:127.0.0.1]"} {
		s := open(t, Config{
			URL: "http://" + host + ":" + port, Resolver: &net.Resolver{}, Timeout: 10 * time.Second,
			Options: Options{Guard: guard.Options{PublicOnly: true}},
		})
		out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
		sinktest.WantKinds(t, out, sinks.KindUnavailable)
	}
	if n := conns[0].Load(); n != 0 {
		t.Errorf("%d connections went to loopback", n)
	}
}

func TestGuardRefusesWhatIsListening(t *testing.T) {
	port, conns := twoReceivers(t)
	for host, want := range map[string]string{
		"127.0.0.1":          "",
		"0.0.0.0":            "connect to http://0.0.0.0:PORT: dial tcp 0.0.0.0:PORT: refused by the guard: 0.0.0.0 is the unspecified address",
		"127.0.0.2":          "refused by the guard: 127.0.0.2 is in 127.0.0.2/32 of guard.deny",
		"[::ffff:127.0.0.2]": "refused by the guard: 127.0.0.2 is in 127.0.0.2/32 of guard.deny",
	} {
		s := open(t, Config{URL: "http://" + host + ":" + port, Options: Options{Guard: guard.Options{Deny: []string{"127.0.0.2/32"}}}})
		err := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))[0]
		want = strings.ReplaceAll(want, "PORT", port)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
	if n := conns[1].Load(); n != 0 {
		t.Errorf("%d connections went to the address that is refused", n)
	}
}
