package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// A port's share of the files that this process may open is small: deliveries need them.
const (
	callbackShare, mostCallbackConns = 8, 512
	healthShare, mostHealthConns     = 16, 64
	apiShare, mostAPIConns           = 2, 8192
)

// connsFor returns how many connections a port may have: a share of the files, most at the most. (The Go runtime has raised the soft
// limit to the hard one.)
func connsFor(share, most int) int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur > uint64(share*most) {
		return most
	}
	return max(int(limit.Cur)/share, 4)
}

// bounded is a listener that keeps few connections. One more takes the place of the one that has been silent for the longest time, of
// its own address where that has more than its share; where all are busy, it is closed. So who opens connections and says nothing
// keeps nobody out.
type bounded struct {
	net.Listener
	most, mostOfOne int

	mu    sync.Mutex
	turn  int64
	conns map[net.Conn]*boundedConn
	of    map[string]int // connections by address
}

type boundedConn struct {
	net.Conn
	in      *bounded
	address string
	silent  int64 // since which turn; 0: busy
	once    sync.Once
}

func bound(l net.Listener, most int) *bounded {
	return &bounded{Listener: l, most: most, mostOfOne: max(most*3/4, 1), conns: make(map[net.Conn]*boundedConn), of: make(map[string]int)}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := b.admit(conn); c != nil {
			return c, nil
		}
		conn.Close()
	}
}

// admit returns nil where there is no room.
func (b *bounded) admit(conn net.Conn) net.Conn {
	address, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		address = conn.RemoteAddr().String()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of[address] >= b.mostOfOne && !b.closeSilent(address) || len(b.conns) >= b.most && !b.closeSilent("") {
		return nil
	}
	b.turn++
	c := &boundedConn{Conn: conn, in: b, address: address, silent: b.turn}
	b.conns[c] = c
	b.of[address]++
	return c
}

// closeSilent closes the connection that has been silent for the longest time, of an address if one is given.
func (b *bounded) closeSilent(address string) bool {
	var oldest *boundedConn
	for _, c := range b.conns {
		if c.silent != 0 && (address == "" || c.address == address) && (oldest == nil || c.silent < oldest.silent) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	b.forget(oldest)
	oldest.Conn.Close()
	return true
}

func (b *bounded) forget(c *boundedConn) {
	if _, there := b.conns[c]; !there {
		return
	}
	delete(b.conns, c)
	if b.of[c.address]--; b.of[c.address] == 0 {
		delete(b.of, c.address)
	}
}

type connKey struct{}

// remember is http.Server's ConnContext.
func (b *bounded) remember(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// whileBusy tells connections with a request that is being answered from those that are silent, or have sent half a request.
func (b *bounded) whileBusy(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		b.setBusy(conn, true)
		defer b.setBusy(conn, false)
		handler.ServeHTTP(w, r)
	})
}

func (b *bounded) setBusy(conn net.Conn, busy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.conns[conn]; c != nil {
		b.turn++
		c.silent = b.turn
		if busy {
			c.silent = 0
		}
	}
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.once.Do(func() {
		c.in.mu.Lock()
		defer c.in.mu.Unlock()
		c.in.forget(c)
	})
	return c.Conn.Close()
}
