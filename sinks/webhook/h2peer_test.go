package webhook

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Types, flags and codes of HTTP/2 (RFC 9113, sections 6 and 7).
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway, frameContinuation = 0, 1, 3, 4, 6, 7, 9

	flagEndStream, flagAck, flagEndHeaders = 1, 1, 4

	codeNone, codeInternal, codeRefused, codeCalm = 0, 2, 7, 11
)

// h2Conn is the server's side of a connection of HTTP/2, frame by frame.
type h2Conn struct {
	net.Conn
	n  int // which connection it is, from 0
	mu sync.Mutex
}

func (c *h2Conn) frame(kind, flags byte, stream uint32, payload ...byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	head := append(binary.BigEndian.AppendUint32(nil, uint32(len(payload)<<8)|uint32(kind)), flags)
	_, err := c.Write(append(binary.BigEndian.AppendUint32(head, stream), payload...))
	return err
}

// ok answers 200 without a body: the first byte is an index into HPACK's static table.
func (c *h2Conn) ok(stream uint32) {
	_ = c.frame(frameHeaders, flagEndHeaders|flagEndStream, stream, 0x88)
}

func (c *h2Conn) reset(stream uint32, code byte) { _ = c.frame(frameReset, 0, stream, 0, 0, 0, code) }

func (c *h2Conn) goAway(last uint32, code byte, debug string) {
	_ = c.frame(frameGoAway, 0, 0, append(binary.BigEndian.AppendUint32(nil, last), append([]byte{0, 0, 0, code}, debug...)...)...)
}

// h2Peer is a receiver whose misbehaviour is up to the test.
type h2Peer struct {
	url   string
	conns atomic.Int32
	// onHeaders is called for each request, with its number from 0; false closes the connection.
	onHeaders func(c *h2Conn, n int, stream uint32) bool
	// mute peers answer no pings, deaf ones read nothing after the handshake, until they are woken; then they read to the
	// end, and say so.
	mute, deaf  bool
	wake, ended chan struct{}
	requests    atomic.Int32
}

// start listens. The peer's certificate is not to be verified.
func (p *h2Peer) start(t *testing.T) {
	conf := &tls.Config{Certificates: []tls.Certificate{newAuthority(t, "h2").pair("server")}, NextProtos: []string{"h2"}}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	p.url = "https://" + l.Addr().String()
	end := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() { close(end); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := &h2Conn{Conn: conn, n: int(p.conns.Add(1)) - 1}
			wg.Go(func() {
				done := make(chan struct{})
				wg.Go(func() {
					select {
					case <-end:
					case <-done:
					}
					c.Close()
				})
				p.serve(c, end)
				close(done)
			})
		}
	})
}

func (p *h2Peer) serve(c *h2Conn, end <-chan struct{}) {
	if _, err := io.ReadFull(c, make([]byte, 24)); err != nil { // the client's preface
		return
	}
	if c.frame(frameSettings, 0, 0) != nil {
		return
	}
	if p.deaf {
		select {
		case <-end:
		case <-p.wake:
			_, _ = io.Copy(io.Discard, c)
			close(p.ended)
		}
		return
	}
	head := make([]byte, 9)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
		if _, err := io.ReadFull(c, payload); err != nil {
			return
		}
		stream := binary.BigEndian.Uint32(head[5:])
		switch kind, flags := head[3], head[4]; {
		case kind == frameSettings && flags&flagAck == 0:
			_ = c.frame(frameSettings, flagAck, 0)
		case kind == framePing && flags&flagAck == 0 && !p.mute:
			_ = c.frame(framePing, flagAck, 0, payload...)
		case kind == frameHeaders:
			if !p.onHeaders(c, int(p.requests.Add(1))-1, stream) {
				return
			}
		}
	}
}
