package webhook

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// forwardProxy is a proxy for HTTP: it forwards requests, and makes tunnels.
type forwardProxy struct {
	addr string
	auth string // user:password that it asks for; empty: none
	// to is where everything is sent, whatever the client asks for.
	to string

	mu       sync.Mutex
	requests []string // the first line of each
	conns    int
}

func newForwardProxy(t testing.TB, to, auth string, conf *tls.Config) *forwardProxy {
	p := &forwardProxy{to: to, auth: auth}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			p.mu.Unlock()
			wg.Go(func() { defer c.Close(); p.serve(c) })
		}
	})
	return p
}

func (p *forwardProxy) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.requests = append(p.requests, req.Method+" "+req.RequestURI)
		p.mu.Unlock()
		if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.auth)); p.auth != "" && req.Header.Get("Proxy-Authorization") != want {
			_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		if req.Method == http.MethodConnect {
			_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			both(c, out)
			return
		}
		req.Header.Del("Proxy-Authorization")
		if req.Write(out) == nil {
			if res, err := http.ReadResponse(bufio.NewReader(out), req); err == nil {
				_ = res.Write(c)
			}
		}
		out.Close()
	}
}

// both copies in both directions until either ends.
func both(a, b net.Conn) {
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			a.Close()
			b.Close()
		})
	}
	wg.Wait()
}

func (p *forwardProxy) seen() (requests []string, conns int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...), p.conns
}

func TestProxy(t *testing.T) {
	a := newAuthority(t, "ours")
	f := newFiles(t)
	ca := f.put("ca", a.pem)
	r := new(receiver)
	plain := serve(t, r.ServeHTTP).Listener.Addr().String()
	secure := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{a.pair("receiver")}}, r).Listener.Addr().String()
	for _, c := range []struct {
		name, url, to string
		tls           bool // between us and the proxy
		want          string
	}{
		{"http", "http://receiver.test/hook", plain, false, "POST http://receiver.test/hook"},
		{"http, over TLS", "http://receiver.test:8080/hook", plain, true, "POST http://receiver.test:8080/hook"},
		{"https", "https://receiver.test/hook", secure, false, "CONNECT receiver.test:443"},
		{"https, over TLS", "https://receiver.test:8443/hook", secure, true, "CONNECT receiver.test:8443"},
		{"https to IPv6", "https://[2a00::1]/hook", secure, false, "CONNECT [2a00::1]:443"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var conf *tls.Config
			scheme := "http"
			if c.tls {
				conf, scheme = &tls.Config{Certificates: []tls.Certificate{a.pair("proxy")}}, "https"
			}
			p := newForwardProxy(t, c.to, "joe:s3cret", conf)
			ref := "file:" + f.put("proxy", []byte(scheme+"://joe:s3cret@"+p.addr+"\n"))
			s := open(t, Config{URL: c.url, Options: Options{Proxy: ref, TLS: TLSOptions{CA: ca, ServerName: "receiver.test"}}})
			for range 3 {
				sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
			}
			requests, conns := p.seen()
			if len(requests) == 0 || requests[0] != c.want || conns != 1 {
				t.Errorf("the proxy saw %q over %d connections, want %q over one", requests, conns, c.want)
			}
			if strings.HasPrefix(c.url, "https") && len(requests) != 1 {
				t.Errorf("%d tunnels, want one", len(requests))
			}
		})
	}
	for _, got := range r.received(t) {
		if got.Headers["proxy-authorization"] != "" {
			t.Error("the receiver got the proxy's password")
		}
	}
}

func TestProxyTroubles(t *testing.T) {
	r := new(receiver)
	secure := serveTLS(t, nil, r).Listener.Addr().String()
	proxy := newForwardProxy(t, secure, "joe:s3cret", nil)
	dead := newForwardProxy(t, freeAddr(t), "", nil)
	metadata := newForwardProxy(t, secure, "", nil)
	speaking := func(text string) string { return servePeer(t, hang(text)) }
	long := strings.Repeat("x", 100)
	for name, c := range map[string]struct {
		proxy, url, want string
		guard            guard.Options
	}{
		"wrong password":        {"http://joe:s3cret2@" + proxy.addr, "https://receiver.test", "answered 407 to CONNECT", guard.Options{}},
		"nobody there":          {"http://joe:s3cret@" + freeAddr(t), "https://receiver.test", "connection refused", guard.Options{}},
		"nobody there, http":    {"http://joe:s3cret@" + freeAddr(t), "http://receiver.test", "connection refused", guard.Options{}},
		"nobody behind":         {"http://" + dead.addr, "https://receiver.test", "answered 502 Bad Gateway to CONNECT", guard.Options{}},
		"nobody behind, http":   {"http://" + dead.addr, "http://receiver.test", "answered 502", guard.Options{}},
		"TLS to one without":    {"https://joe:s3cret@" + proxy.addr, "https://receiver.test", "during the TLS handshake", guard.Options{}},
		"no HTTP":               {"http://" + speaking("220 s3cret\r\n"), "https://receiver.test", "CONNECT: malformed HTTP", guard.Options{}},
		"silence":               {"http://" + speaking(""), "https://receiver.test", "no answer within 1s", guard.Options{}},
		"endless headers":       {"http://" + servePeer(t, say("HTTP/1.1 200 OK\r\n", "a: "+long+"\r\n", 0)), "https://receiver.test", "CONNECT", guard.Options{}},
		"bytes of its own":      {"http://" + speaking("HTTP/1.1 200 OK\r\n\r\ns3cret"), "https://receiver.test", "bytes of its own", guard.Options{}},
		"guard: the proxy":      {"http://" + proxy.addr, "https://receiver.test", "127.0.0.1 is in 127.0.0.0/8 of guard.deny", guard.Options{Deny: []string{"127.0.0.0/8"}}},
		"guard: metadata":       {"http://" + metadata.addr, "http://169.254.169.254/latest", "refused by the guard: 169.254.169.254", guard.Options{}},
		"guard: mapped":         {"http://" + metadata.addr, "https://[::ffff:169.254.169.254]/", "refused by the guard: 169.254.169.254", guard.Options{}},
		"guard: hexadecimal":    {"http://" + metadata.addr, "http://0xA9FEA9FE/", "refused by the guard", guard.Options{}},
		"guard: decimal":        {"http://" + metadata.addr, "http://2852039166/", "refused by the guard", guard.Options{}},
		"guard: octal":          {"http://" + metadata.addr, "https://0251.0376.0251.0376/", "refused by the guard", guard.Options{}},
		"guard: mixed":          {"http://" + metadata.addr, "http://169.254.0xa9fe./", "refused by the guard", guard.Options{}},
		"guard: denied address": {"http://" + metadata.addr, "http://10.1.2.3/", "10.0.0.0/8 of guard.deny", guard.Options{Deny: []string{"10.0.0.0/8"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ref := "file:" + newFiles(t).put("proxy", []byte(c.proxy))
			s := open(t, Config{URL: c.url, Timeout: time.Second, Options: Options{Proxy: ref, TLS: skipVerify, Guard: c.guard}})
			out := sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1"))
			sinktest.WantKinds(t, out, sinks.KindUnavailable)
			if text := out[0].Error(); !strings.Contains(text, c.want) || strings.Contains(text, "s3cret") || len(text) > 600 {
				t.Errorf("the reason is %q, want %q in it, and no secret", text, c.want)
			}
		})
	}
	t.Cleanup(func() {
		if requests, _ := metadata.seen(); len(requests) > 0 {
			t.Errorf("the proxy was asked for %q", requests)
		}
	})
}

func TestProxyOptions(t *testing.T) {
	f := newFiles(t)
	for want, o := range map[string]Options{
		"proxy holds user info":                 {Proxy: "http://joe:s3cret@proxy:3128"},
		"proxy must be environment, an http or": {Proxy: "socks5://proxy"},
		"must be environment":                   {Proxy: "proxy:3128"},
		"proxy names no host":                   {Proxy: "http:///x"},
		"proxy cannot be parsed":                {Proxy: "file:" + f.put("a", []byte("http://joe:s3cret@pro xy:31\x7f28"))},
		"proxy: the variable NO_SUCH_PROXY":     {Proxy: "env:NO_SUCH_PROXY"},
		"proxy: stat":                           {Proxy: "file:" + f.path("missing")},
		"guard.public_only and proxy":           {Proxy: "http://proxy", Guard: guard.Options{PublicOnly: true}},
		"guard.public_only and proxy are":       {Proxy: "environment", Guard: guard.Options{PublicOnly: true}},
	} {
		_, err := New(Config{URL: "https://receiver.test", Options: o})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, want %q", o.Proxy, err, want)
		}
	}
}

// A proxy whose reference leads elsewhere is used from then on.
func TestProxyChanges(t *testing.T) {
	r := new(receiver)
	to := serve(t, r.ServeHTTP).Listener.Addr().String()
	first, second := newForwardProxy(t, to, "", nil), newForwardProxy(t, to, "", nil)
	f := newFiles(t)
	s := open(t, Config{URL: "http://receiver.test", Options: Options{Proxy: "file:" + f.put("proxy", []byte("http://"+first.addr))}})
	stop := keepDelivering(t, s, 2)
	f.put("proxy", []byte("http://"+second.addr))
	eventually(t, "a request through the second proxy", func() bool { requests, _ := second.seen(); return len(requests) > 0 })
	stop()
}

// net/http reads the environment once in a process, so that this needs one of its own.
func TestProxyOfTheEnvironment(t *testing.T) {
	if target := os.Getenv("POSTRIDER_TEST_TARGET"); target != "" {
		ns := &nameServer{answer: func(int) []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} }}
		s := open(t, Config{
			URL: target, Resolver: ns.resolver(t), Options: Options{Proxy: os.Getenv("POSTRIDER_TEST_PROXY")}, Timeout: 5 * time.Second,
		})
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
		return
	}
	r := new(receiver)
	to := serve(t, r.ServeHTTP).Listener.Addr().String()
	_, port, _ := net.SplitHostPort(to)
	for _, c := range []struct {
		option, target string
		want           int // requests through the proxy
	}{{"environment", "http://receiver.test:" + port, 1}, {"", "http://receiver.test:" + port, 0}, {"environment", "http://" + to, 0}} {
		p := newForwardProxy(t, to, "joe:s3cret", nil)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyOfTheEnvironment$", "-test.count=1")
		cmd.Env = append(os.Environ(), "POSTRIDER_TEST_TARGET="+c.target, "POSTRIDER_TEST_PROXY="+c.option,
			"HTTP_PROXY=http://joe:s3cret@"+p.addr, "http_proxy=http://joe:s3cret@"+p.addr, "NO_PROXY=", "no_proxy=")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q, %s: %v\n%s", c.option, c.target, err, text)
		}
		if requests, _ := p.seen(); len(requests) != c.want {
			t.Errorf("%q, %s: %d requests went through the proxy, want %d", c.option, c.target, len(requests), c.want)
		}
	}
}
