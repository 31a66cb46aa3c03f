package hooktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// Receiver is an HTTP server with endpoints that can be made to fail. Its methods may be called concurrently.
type Receiver struct {
	addr string

	mu        sync.Mutex // held while a request is decided
	record    func(Arrival)
	endpoints map[string]*endpoint

	life   sync.Mutex // held while the port is opened or closed
	server *server    // nil while nobody listens
	ended  bool
}

// server is one incarnation: an http.Server serves no more after it was closed.
type server struct {
	http.Server
	wg sync.WaitGroup // the listener and the connections
}

// Start starts a receiver on a free loopback port. record is called once for each request, never
// concurrently, and must be quick; it must not call the Receiver.
func Start(record func(Arrival)) (*Receiver, error) {
	r := &Receiver{record: record, endpoints: map[string]*endpoint{}}
	var err error
	for range 100 {
		// Below the range of outgoing connections: a client that dials a port of that range while nobody
		// listens can end up connected to itself, and the port could not be opened again.
		r.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(15000+rand.IntN(17000)))
		if err = r.Open(); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("start an HTTP receiver: %w", err)
}

// Addr returns the host:port, which stays the same.
func (r *Receiver) Addr() string { return r.addr }

// URL returns the address of the endpoint at path, which begins with a slash.
func (r *Receiver) URL(path string) string { return "http://" + r.addr + path }

// Refuse closes the port and all connections, until Open. It returns when no request is under way any more.
func (r *Receiver) Refuse() {
	r.life.Lock()
	defer r.life.Unlock()
	if r.server == nil {
		return
	}
	_ = r.server.Close()
	r.server.wg.Wait()
	r.server = nil
}

// Open ends Refuse. It fails if somebody else has taken the port meanwhile.
func (r *Receiver) Open() error {
	r.life.Lock()
	defer r.life.Unlock()
	if r.ended {
		return errors.New("open the receiver's port: it was stopped for good")
	}
	if r.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		return fmt.Errorf("open the receiver's port: %w", err)
	}
	r.server = r.newServer()
	r.server.wg.Go(func() { _ = r.server.Serve(l) })
	return nil
}

// Stop is Refuse for good.
func (r *Receiver) Stop() {
	r.Refuse()
	r.life.Lock()
	defer r.life.Unlock()
	r.ended = true
}

// connKey finds the connection of a request.
type connKey struct{}

func (r *Receiver) newServer() *server {
	s := new(server)
	s.Handler = http.HandlerFunc(r.serve)
	s.ErrorLog = log.New(io.Discard, "", 0)
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.wg.Add(1)
		case http.StateClosed:
			s.wg.Done()
		}
	}
	return s
}
