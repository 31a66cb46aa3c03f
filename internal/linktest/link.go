package linktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/rs/zerolog"
)

// Direction says which way bytes go through a link.
type Direction int

// The directions.
const (
	Both Direction = iota
	ToServer
	ToClient
)

// Link is a TCP proxy whose network can fail. Its methods may be called concurrently.
type Link struct {
	addr     string
	up, down *gate // to the server, to the client
	toxics   *toxiproxy.ToxicCollection
	api      *toxiproxy.ApiServer
	wg       sync.WaitGroup

	shape struct {
		sync.Mutex          // held while toxics change
		names      []string // of those in place
	}

	mu       sync.Mutex
	upstream string
	stopped  bool
	cut      context.CancelFunc // nil while the link is cut
	listener net.Listener
	pairs    map[*pair]struct{}
	links    int  // made so far, for their names
	loose    bool // outlets take everything
}

// Start starts a link to upstream (host:port) on a free loopback port, healthy.
// The server need not run yet: while it does not, clients are disconnected.
func Start(upstream string) (*Link, error) {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &Link{
		upstream: upstream, up: newGate(), down: newGate(), pairs: map[*pair]struct{}{}, api: api,
		toxics: toxiproxy.NewProxy(api, "link", "", upstream).Toxics,
	}
	var err error
	for range 100 {
		// Below the range of outgoing connections: a client that dials a port of that range while nobody
		// listens can end up connected to itself, and the link could not be healed.
		l.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(15000+rand.IntN(17000)))
		if err = l.listen(); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("start a link to %s: %w", upstream, err)
}

// Addr returns the host:port for clients. It stays the same.
func (l *Link) Addr() string { return l.addr }

// Conns returns the number of connections that pass through the link.
func (l *Link) Conns() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pairs)
}

// Cut resets all connections and refuses new ones, until Heal.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut != nil {
		l.cut()
		l.cut = nil
		_ = l.listener.Close()
	}
	l.reset()
}

// Reset resets all connections. New ones are made as before.
func (l *Link) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reset()
}

func (l *Link) reset() {
	for p := range l.pairs {
		p.reset()
	}
}

// HalfOpen lets no byte pass in direction d; the other direction is opened. No connection
// ends by it, and neither peer learns of an end of the other. New connections are accepted;
// they reach the server only if bytes may pass to it. Heal passes on what was held back.
func (l *Link) HalfOpen(d Direction) { l.setGates(d == ToClient, d == ToServer) }

func (l *Link) setGates(up, down bool) {
	l.up.set(up)
	l.down.set(down)
}

// Retarget sends new connections to another server (host:port). Those that exist stay.
func (l *Link) Retarget(upstream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upstream = upstream
}

// Heal ends Cut, HalfOpen and Slow. It fails if somebody else has taken the port meanwhile.
func (l *Link) Heal() error {
	err := l.reshape(nil)
	l.setGates(true, true)
	if err = errors.Join(err, l.listen()); err != nil {
		return fmt.Errorf("heal the link: %w", err)
	}
	return nil
}

// Stop resets all connections, closes the port and waits until nothing of the link is left.
func (l *Link) Stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.Cut()
	l.wg.Wait()
}

// listen opens the port unless it is open.
func (l *Link) listen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return errors.New("the link was stopped for good")
	}
	if l.cut != nil {
		return nil
	}
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		return err
	}
	ctx, cut := context.WithCancel(context.Background())
	l.listener, l.cut = listener, cut
	l.wg.Go(func() { l.accept(ctx, listener) })
	return nil
}

func (l *Link) accept(ctx context.Context, listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(ctx, c.(*net.TCPConn)) })
	}
}

// serve connects a client with the server and waits until both are gone.
func (l *Link) serve(ctx context.Context, client *net.TCPConn) {
	if !l.up.wait(ctx.Done()) {
		abort(client)
		return
	}
	l.mu.Lock()
	upstream := l.upstream
	l.mu.Unlock()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", upstream)
	if err != nil {
		abort(client)
		return
	}
	p := newPair(client, server.(*net.TCPConn), l.up, l.down)
	name := l.register(ctx, p)
	if name == "" {
		p.reset()
		return
	}
	l.run(p, name)
}

// register notes a pair and returns a name for it, or nothing if the link was cut.
func (l *Link) register(ctx context.Context, p *pair) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		return ""
	}
	l.pairs[p] = struct{}{}
	p.up.loosen(l.loose)
	p.down.loosen(l.loose)
	l.links++
	return strconv.Itoa(l.links)
}

func (l *Link) run(p *pair, name string) {
	l.toxics.StartLink(l.api, name+"up", inlet{p, p.client, l.up}, p.up, stream.Upstream)
	l.toxics.StartLink(l.api, name+"down", inlet{p, p.server, l.down}, p.down, stream.Downstream)
	var wg sync.WaitGroup
	wg.Go(p.up.pump)
	wg.Go(p.down.pump)
	wg.Wait()
	<-p.done
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
	<-p.up.closed
	<-p.down.closed
}
