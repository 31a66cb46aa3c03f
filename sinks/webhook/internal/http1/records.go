package http1

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"syscall"
)

// Records is the connection below TLS. It follows the records that come (RFC 8446, section 5.1), and so can say whether all that has come has
// been read: crypto/tls reads ahead, and keeps the beginning of a record to itself.
type Records struct {
	net.Conn
	raw syscall.RawConn // nil if there is none

	head [recordHeader]byte // of the next record
	have int                // bytes of head
	left int                // bytes of a record that are still to come

	polling bool // reads find what is there, and wait for nothing
	poll    func(fd uintptr)
	into    []byte // what poll reads into
	n       int    // what it has read
	err     error
}

const recordHeader = 5 // type, version, length

// NewRecords returns what tls.Client takes instead of the connection.
func NewRecords(c net.Conn) *Records {
	r := &Records{Conn: c}
	if socket, ok := c.(syscall.Conn); ok {
		r.raw, _ = socket.SyscallConn() // on an error there is none
	}
	r.poll = func(fd uintptr) { r.n, r.err = readNow(fd, r.into) }
	return r
}

// Read is the connection's.
func (r *Records) Read(b []byte) (n int, err error) {
	if r.polling {
		n, err = r.readNow(b)
	} else {
		n, err = r.Conn.Read(b)
	}
	r.follow(b[:n])
	return n, err
}

// follow takes note of what has come.
func (r *Records) follow(b []byte) {
	for len(b) > 0 {
		if r.left > 0 {
			n := min(r.left, len(b))
			r.left, b = r.left-n, b[n:]
			continue
		}
		n := copy(r.head[r.have:], b)
		r.have, b = r.have+n, b[n:]
		if r.have == recordHeader {
			r.have, r.left = 0, int(binary.BigEndian.Uint16(r.head[3:]))
		}
	}
}

func (r *Records) readNow(b []byte) (int, error) {
	r.into = b
	err := r.raw.Control(r.poll)
	r.into = nil
	switch {
	case err != nil:
		return 0, err
	case r.err == syscall.EAGAIN:
		return 0, errNothing
	case r.err == nil && r.n == 0:
		return 0, io.EOF
	}
	return max(r.n, 0), r.err
}

// silent says whether nothing has come for the one who reads from c, nor a part of it. What is for TLS itself, such as tickets for further
// sessions, is taken by it.
func (r *Records) silent(c *tls.Conn) bool {
	if r.raw == nil {
		return false
	}
	var b [1]byte
	r.polling = true
	_, err := c.Read(b[:])
	r.polling = false
	return err == errNothing && r.have == 0 && r.left == 0
}

// errNothing says that there is nothing to read yet. crypto/tls lets whoever reads try again after an error that is temporary.
var errNothing error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing has come" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
