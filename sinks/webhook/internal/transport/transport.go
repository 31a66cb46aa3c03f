package transport

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook/internal/http1"
)

const (
	connectTimeout = 5 * time.Second

	// A connection of HTTP/2 carries all lanes, and nobody else would notice that its peer is gone: an attempt that timed
	// out leaves it in place.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
	// What the peer may send ahead of our reading, for each stream: a bit more than an answer's bound.
	streamBuffer = 128 << 10
	connBuffer   = 1 << 20
)

// Config says how to connect. All of it is required but for what may be nil or empty.
type Config struct {
	Target    *url.URL
	UserAgent string
	Lanes     int           // most connections, but for those of HTTP/2, and requests at once
	Timeout   time.Duration // of an attempt
	TLS       TLSOptions
	Base      *tls.Config // TLS is applied over it; nil: the system's authorities
	Guard     guard.Options
	Proxy     string        // empty: none; environment, a URL, or a reference to one
	HTTP2     *bool         // nil: where TLS negotiates it
	Resolver  *net.Resolver // nil: the system's
	Secrets   *secret.Store
	Log       *slog.Logger
	Meter     *sinks.Meter // of connections; nil: nobody counts
}

// Transport keeps the connections to one destination. Where files or a reference say how to connect, it checks them
// while it is used, at most once per rereadInterval. When they have changed, new connections are made, and old ones end
// with the requests that they carry.
type Transport struct {
	cfg    Config
	guard  *guard.Guard
	proxy  proxySource
	dialer *net.Dialer
	// life ends the dials that are under way, which http.Transport otherwise leaves running behind a request that was
	// cancelled.
	life context.Context

	current atomic.Pointer[Pool]
	due     atomic.Int64 // when to check again, in unix nanoseconds; 0: never

	mu      sync.Mutex // held while checking
	failed  string     // the trouble that was reported last
	retired []*Pool
}

// New takes settings that were checked, and reads what they refer to. Its errors name the setting. The end of life ends dials and
// connections.
func New(life context.Context, cfg Config) (*Transport, error) {
	t := &Transport{cfg: cfg, life: life}
	var err error
	if t.guard, err = guard.New(cfg.Guard); err != nil {
		return nil, err
	}
	if t.proxy, err = newProxySource(cfg.Proxy, cfg.Target); err != nil {
		return nil, err
	}
	t.dialer = &net.Dialer{
		Timeout: connectTimeout, KeepAlive: 30 * time.Second, Resolver: cfg.Resolver, ControlContext: t.guard.Control,
	}
	p, err := t.read(nil)
	if err != nil {
		return nil, err
	}
	t.current.Store(p)
	if cfg.TLS.files() || t.proxy.ref.InFile() {
		t.due.Store(time.Now().Add(secret.RereadInterval).UnixNano())
	}
	if cfg.TLS.InsecureSkipVerify {
		t.cfg.Log.Warn("tls.insecure_skip_verify is set: anybody between here and the destination can read and forge", "host", cfg.Target.Host)
	}
	t.warnExpired(p, time.Now())
	return t, nil
}

// RoundTrip is http.RoundTripper's. An error that is the destination's as a whole is a connectError.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	p := t.Connections(time.Now())
	if p.refused != nil {
		return nil, connectError{p.refused}
	}
	res, err := p.RoundTrip(req)
	p.closeGiven()
	if err != nil {
		return nil, p.Advise(err)
	}
	p.prove()
	if res.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the connection, which no context ends any more.
		res.Body.Close()
		res.Body = http.NoBody
	}
	return res, nil
}

// CloseIdleConnections closes all connections that carry no request.
func (t *Transport) CloseIdleConnections() {
	t.current.Load().CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.retired {
		p.CloseIdleConnections()
	}
}

// Connections returns the connections as of now. Others go on with the old ones while one checks.
func (t *Transport) Connections(now time.Time) *Pool {
	if due := t.due.Load(); due != 0 && now.UnixNano() >= due && t.mu.TryLock() {
		t.check(now)
		t.mu.Unlock()
	}
	return t.current.Load()
}

// check makes a new pool if what the old one was made of has changed. Trouble keeps the old one and is logged once:
// certificate and key are often replaced one after the other.
func (t *Transport) check(now time.Time) {
	t.due.Store(now.Add(secret.RereadInterval).UnixNano())
	old := t.current.Load()
	p, err := t.read(old)
	if err != nil {
		if err.Error() != t.failed {
			t.cfg.Log.Warn("files of the connection's settings cannot be used, the last ones stay in use", "host", t.cfg.Target.Host, "error", err)
		}
		t.failed = err.Error()
		return
	}
	t.failed = ""
	if p == old {
		return
	}
	t.current.Store(p)
	t.cfg.Log.Info("files of the connection's settings have changed, new connections are made with them", "host", t.cfg.Target.Host)
	t.warnExpired(p, now)
	t.retire(old, now)
}

// retire closes what can be closed. The rest becomes idle when its requests end, and is closed by the idle timeout.
func (t *Transport) retire(old *Pool, now time.Time) {
	old.retired = now
	if old.HTTP1 != nil {
		old.HTTP1.Retire()
	}
	t.retired = slices.DeleteFunc(t.retired, func(p *Pool) bool {
		return now.Sub(p.retired) > t.cfg.Timeout+2*http1.IdleTimeout
	})
	t.retired = append(t.retired, old)
	for _, p := range t.retired {
		p.CloseIdleConnections()
	}
}

func (t *Transport) warnExpired(p *Pool, now time.Time) {
	if at, ok := p.pem.expired(now); ok {
		t.cfg.Log.Warn("the client certificate has expired", "tls.cert", t.cfg.TLS.Cert, "not_after", at)
	}
}

// read reads what can change. It returns old, which may be nil, if nothing has.
func (t *Transport) read(old *Pool) (*Pool, error) {
	text, err := t.cfg.TLS.read(t.cfg.Secrets)
	if err != nil {
		return nil, err
	}
	proxy, err := t.proxy.read(t.cfg.Secrets)
	if err != nil {
		return nil, err
	}
	if old != nil && old.pem.equal(text) && sameURL(old.proxy, proxy) {
		return old, nil
	}
	conf, err := t.cfg.TLS.config(t.cfg.Secrets, t.cfg.Base, text)
	if err != nil {
		return nil, err
	}
	p := &Pool{pem: text, proxy: proxy, given: make(chan net.Conn, t.cfg.Lanes)}
	p.present(conf)
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	d := dialer{t.life, t.dialer.DialContext, conf, proxy}
	p.Transport = t.overNet(p, d)
	if proxy == nil {
		dial := d.plain
		if t.cfg.Target.Scheme == "https" {
			dial = d.secure
		}
		p.HTTP1 = http1.New(t.cfg.Target, t.cfg.UserAgent, t.cfg.Lanes, p.forHTTP1(t.connect(dial)))
	}
	if proxy != nil {
		p.refused = t.guard.CheckHost(t.cfg.Target.Hostname())
	}
	return p, nil
}

func sameURL(a, b *url.URL) bool {
	return (a == nil) == (b == nil) && (a == nil || a.String() == b.String())
}

// overNet returns what keeps connections that d makes, but for those of the http1.Client.
func (t *Transport) overNet(p *Pool, d dialer) *http.Transport {
	lanes := t.cfg.Lanes
	roundTripper := &http.Transport{
		DialContext:            t.connect(d.plain),
		Protocols:              new(http.Protocols),
		MaxConnsPerHost:        lanes,
		MaxIdleConns:           lanes,
		MaxIdleConnsPerHost:    lanes,
		IdleConnTimeout:        http1.IdleTimeout,
		MaxResponseHeaderBytes: http1.MaxHeader,
		DisableCompression:     true,
	}
	roundTripper.Protocols.SetHTTP1(true)
	if t.cfg.Target.Scheme == "http" {
		// The proxy gets the request instead of a tunnel, which many refuse for port 80.
		if d.proxy != nil {
			roundTripper.Proxy, roundTripper.DialTLSContext = http.ProxyURL(d.proxy), t.connect(d.toProxy)
		}
		return roundTripper
	}
	d.offer(protocolHTTP1)
	if h2 := t.cfg.HTTP2; h2 == nil || *h2 {
		d.offer(protocolHTTP2, protocolHTTP1)
		roundTripper.Protocols.SetHTTP2(true)
		// Where the receiver's limit of streams is below lanes, there are more connections for it. With
		// StrictMaxConcurrentRequests there would be one, on which requests that wait keep each other waiting
		// (golang/go#70809).
		roundTripper.HTTP2 = &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: pingAfter,
			MaxReceiveBufferPerStream: streamBuffer, MaxReceiveBufferPerConnection: connBuffer,
		}
	}
	roundTripper.DialTLSContext = p.forNet(t.connect(d.secure))
	return roundTripper
}

// connect bounds a dial, handshakes included, and marks its errors.
func (t *Transport) connect(dial http1.DialFunc) http1.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		defer context.AfterFunc(t.life, cancel)()
		conn, err := dial(ctx, network, addr)
		t.cfg.Meter.Connected(err)
		if err != nil {
			return nil, connectError{err}
		}
		return conn, nil
	}
}
