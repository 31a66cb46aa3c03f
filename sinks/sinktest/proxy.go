package sinktest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections on a loopback port to a backend, and plays a network in trouble.
type Proxy struct {
	t       testing.TB
	addr    string
	backend string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	gate     chan struct{} // closed while bytes flow
	wg       sync.WaitGroup
}

// NewProxy starts a proxy to the backend, host:port. It stops at the end of the test.
func NewProxy(t testing.TB, backend string) *Proxy {
	p := &Proxy{t: t, addr: "127.0.0.1:0", backend: backend, conns: map[net.Conn]struct{}{}, gate: make(chan struct{})}
	close(p.gate)
	p.Up()
	t.Cleanup(func() { p.Down(); p.wg.Wait() })
	return p
}

// Addr returns the host:port to connect to. It stays the same.
func (p *Proxy) Addr() string { return p.addr }

// Down closes all connections and the port.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.cut()
	p.flow()
}

// Hang lets connections be made, but passes no byte on.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
		p.gate = make(chan struct{})
	default:
	}
}

// Cut breaks all connections; new ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// Up ends Down and Hang. Bytes held back by Hang are passed on.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flow()
	if p.listener != nil {
		return
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", p.addr)
	if err != nil {
		p.t.Fatalf("proxy: %v", err)
	}
	p.listener, p.addr = l, l.Addr().String()
	p.wg.Go(func() { p.accept(l) })
}

func (p *Proxy) flow() {
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

func (p *Proxy) cut() {
	for c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) accept(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(l, in) })
	}
}

func (p *Proxy) serve(l net.Listener, in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", p.backend)
	if err != nil {
		return
	}
	defer out.Close()
	if !p.track(l, in, out) {
		return
	}
	defer p.untrack(in, out)
	var wg sync.WaitGroup
	wg.Go(func() { p.pipe(out, in) })
	wg.Go(func() { p.pipe(in, out) })
	wg.Wait()
}

// track notes a pair of connections, unless the proxy went down while they were made.
func (p *Proxy) track(l net.Listener, pair ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != l {
		return false
	}
	for _, c := range pair {
		p.conns[c] = struct{}{}
	}
	return true
}

func (p *Proxy) untrack(pair ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range pair {
		delete(p.conns, c)
	}
}

// pipe copies one direction. When it ends it closes both ends, so that the other direction ends as well.
func (p *Proxy) pipe(dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		gate := p.gate
		p.mu.Unlock()
		<-gate
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
