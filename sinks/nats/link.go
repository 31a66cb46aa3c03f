package natssink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

const (
	connectTimeout = 2 * time.Second
	closeTimeout   = 5 * time.Second
	maxDenied      = 1000
)

// conn is one connection, which reconnects by itself until the server ends it with an error that the client library
// takes for final.
type conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	closed chan struct{}
	stale  atomic.Bool // it cannot be made again with what has changed: another one is needed

	mu sync.Mutex
	// lost is closed, and replaced, when the connection breaks.
	lost chan struct{}
	idle []*inbox
}

// link keeps a connection to the servers: it makes a new one when the library has given the old one up.
type link struct {
	cfg   Config
	id    *identity
	meter *sinks.Meter // nil: nobody counts
	life  context.Context
	end   context.CancelFunc

	mu  sync.Mutex // held while connecting
	cur *conn

	noteMu sync.Mutex
	// trouble is the last error of the connection, nil once it works.
	trouble error
	// denied holds what the server has refused since the last connect, by subject.
	denied map[string]error
	// refusals is the size of denied, to be read without the lock.
	refusals atomic.Int32
}

func newLink(ctx context.Context, cfg Config, id *identity, meter *sinks.Meter) (*link, error) {
	l := &link{cfg: cfg, id: id, meter: meter, denied: map[string]error{}}
	l.life, l.end = context.WithCancel(context.Background())
	// The first try to connect ends with ctx; later ones with the sink.
	stop := context.AfterFunc(ctx, l.end)
	err := l.connect()
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// get returns a connection that works at this moment.
func (l *link) get() (*conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur.stale.Load() {
		l.cur.nc.Close()
	}
	if l.cur.nc.IsClosed() && l.life.Err() == nil {
		if err := l.connect(); err != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
	}
	if l.cur.nc.IsConnected() {
		return l.cur, nil
	}
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	if l.trouble == nil {
		return nil, errors.New("NATS is not connected")
	}
	return nil, fmt.Errorf("NATS is not connected: %w", l.trouble)
}

func (l *link) connect() error {
	l.clear()
	c := &conn{closed: make(chan struct{}), lost: make(chan struct{})}
	nc, err := nats.Connect(strings.Join(l.cfg.Servers, ","), l.options(c)...)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return err
	}
	c.nc, c.js = nc, js
	l.cur = c
	return nil
}

func (l *link) options(c *conn) []nats.Option {
	opts := []nats.Option{
		nats.Name(l.cfg.Name),
		nats.Timeout(connectTimeout),
		nats.SetCustomDialer(dialer{l.life, l.cfg.Control}),
		nats.SkipHostLookup(),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // A password may be mended while we run.
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(-1), // A message reported as failed must not go out later.
		nats.PingInterval(20 * time.Second),
		nats.FlusherTimeout(l.cfg.AckTimeout),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.note(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.meter.Connected(err); l.note(err) }),
		nats.ConnectHandler(func(*nats.Conn) { l.meter.Connected(nil) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.note(err); c.lose() }),
		nats.ReconnectHandler(func(*nats.Conn) { l.meter.Connected(nil); l.clear() }),
		nats.ClosedHandler(func(*nats.Conn) { c.lose(); close(c.closed) }),
	}
	if l.cfg.confides() && !l.cfg.secure() {
		// Whoever answers can name more servers, and would be sent what is for those that the address names. Over TLS they would have
		// to prove that they are the same.
		opts = append(opts, nats.IgnoreDiscoveredServers())
	}
	return append(opts, l.cfg.trust(), l.id.option(&c.stale))
}

// reconnectDelay is the pause after all servers have been tried in vain that many times: 50 ms, doubling up to about 3 s.
func reconnectDelay(attempts int) time.Duration {
	d := 50 * time.Millisecond << min(max(attempts-1, 0), 6)
	return d/2 + rand.N(d/2)
}

func (l *link) note(err error) {
	if err == nil {
		return
	}
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	subject := deniedSubject(err)
	if subject == "" {
		l.trouble = err
	} else if len(l.denied) < maxDenied {
		l.denied[subject] = err
		l.refusals.Store(int32(len(l.denied)))
	}
}

func (l *link) clear() {
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	l.trouble = nil
	clear(l.denied)
	l.refusals.Store(0)
}

// refusal returns the server's last word on a subject, or nil.
func (l *link) refusal(subject string) error {
	if l.refusals.Load() == 0 {
		return nil
	}
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	return l.denied[subject]
}

// forget drops an earlier refusal of a subject that is tried again: permissions may have changed meanwhile.
func (l *link) forget(subject string) {
	if l.refusals.Load() == 0 {
		return
	}
	l.noteMu.Lock()
	defer l.noteMu.Unlock()
	delete(l.denied, subject)
	l.refusals.Store(int32(len(l.denied)))
}

// deniedSubject reads the subject out of the server's: Permissions Violation for Publish to "orders.created".
func deniedSubject(err error) string {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return ""
	}
	_, quoted, ok := strings.Cut(err.Error(), "Publish to ")
	if !ok {
		return ""
	}
	prefix, _ := strconv.QuotedPrefix(quoted)
	subject, _ := strconv.Unquote(prefix)
	return subject
}

// close ends the connection and waits for it.
func (l *link) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	if l.cur == nil {
		return nil
	}
	l.cur.nc.Close()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-l.cur.closed:
		return nil
	case <-timer.C:
		return fmt.Errorf("close the connection to NATS: not closed after %v", closeTimeout)
	}
}

// dialer dials for as long as the sink lives.
type dialer struct {
	life    context.Context
	control func(ctx context.Context, network, address string, conn syscall.RawConn) error
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: connectTimeout, ControlContext: d.control}
	return nd.DialContext(d.life, network, address)
}
