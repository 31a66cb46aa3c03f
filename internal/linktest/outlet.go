package linktest

import (
	"net"
	"sync"
)

const (
	// outletSize is how many bytes an outlet holds before it makes its chain wait.
	outletSize = 256 << 10
	// outletKept is the largest buffer that is used again.
	outletKept = 4 * outletSize
)

// outlet is where one direction ends: a queue and a goroutine (pump) that empties it
// into a connection. Write and Close, which toxiproxy calls, never fail.
type outlet struct {
	p         *pair
	conn      *net.TCPConn
	gate, way *gate // of this direction, and of the other one
	closed    chan struct{}

	mu    sync.Mutex
	cond  sync.Cond
	buf   []byte
	eof   bool // nothing follows
	dead  bool // nobody takes anything any more
	loose bool // take everything at once, whatever it is
}

func newOutlet(p *pair, conn *net.TCPConn, this, other *gate) *outlet {
	o := &outlet{p: p, conn: conn, gate: this, way: other, closed: make(chan struct{})}
	o.cond.L = &o.mu
	return o
}

// Write queues b, and swallows it if the connection is gone.
func (o *outlet) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buf) >= outletSize && !o.loose && !o.dead {
		o.cond.Wait()
	}
	if !o.dead {
		o.buf = append(o.buf, b...)
		o.cond.Broadcast()
	}
	return len(b), nil
}

// Close says that nothing follows. It is the last thing that a chain does.
func (o *outlet) Close() error {
	o.change(func() { o.eof = true })
	close(o.closed)
	return nil
}

func (o *outlet) kill()           { o.change(func() { o.dead = true }) }
func (o *outlet) loosen(yes bool) { o.change(func() { o.loose = yes }) }

func (o *outlet) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	o.cond.Broadcast()
}

// pump sends what is queued until the direction ends or the pair does.
func (o *outlet) pump() {
	var sent []byte
	for {
		out := o.take(sent[:0])
		if !o.gate.wait(o.p.done) {
			return
		}
		if len(out) == 0 {
			_ = o.conn.CloseWrite()
			o.p.directionEnded()
			return
		}
		if _, err := o.conn.Write(out); err != nil {
			o.way.wait(o.p.done) // The other peer learns of it when the way back is open.
			o.p.reset()
			return
		}
		if sent = out; cap(sent) > outletKept {
			sent = nil
		}
	}
}

// take returns all that is queued, as soon as there is something; nothing at the end. next becomes the queue.
func (o *outlet) take(next []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buf) == 0 && !o.eof && !o.dead {
		o.cond.Wait()
	}
	out := o.buf
	o.buf = next
	o.cond.Broadcast()
	return out
}
