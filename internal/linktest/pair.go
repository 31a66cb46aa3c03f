package linktest

import (
	"io"
	"net"
	"sync"
)

// pair is one connection of a client and the one to the server that belongs to it.
type pair struct {
	client, server *net.TCPConn
	up, down       *outlet // to the server, to the client

	once sync.Once
	done chan struct{} // closed when both connections are

	mu   sync.Mutex
	half bool // one direction has come to its end
}

func newPair(client, server *net.TCPConn, up, down *gate) *pair {
	p := &pair{client: client, server: server, done: make(chan struct{})}
	p.up, p.down = newOutlet(p, server, up, down), newOutlet(p, client, down, up)
	return p
}

// reset breaks both connections: each peer gets a reset.
func (p *pair) reset() {
	p.once.Do(func() {
		abort(p.client)
		abort(p.server)
		p.close()
	})
}

// directionEnded closes both connections in order once both directions have ended.
func (p *pair) directionEnded() {
	p.mu.Lock()
	both := p.half
	p.half = true
	p.mu.Unlock()
	if both {
		p.once.Do(p.close)
	}
}

func (p *pair) close() {
	_ = p.client.Close()
	_ = p.server.Close()
	close(p.done)
	p.up.kill()
	p.down.kill()
}

// abort closes a connection with a reset instead of an orderly end.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// inlet is where one direction begins.
type inlet struct {
	p    *pair
	conn *net.TCPConn
	gate *gate // of this direction, which the news of a reset takes as well
}

// Read ends with io.EOF, whatever the reason: a chain of toxiproxy needs no other.
func (in inlet) Read(b []byte) (int, error) {
	n, err := in.conn.Read(b)
	if err != nil && err != io.EOF {
		in.gate.wait(in.p.done)
		in.p.reset()
		err = io.EOF
	}
	return n, err
}
