package linktest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSlow(t *testing.T) {
	s := newScene(t)
	client, server := s.connect()
	go func() { _, _ = io.Copy(server, server) }()
	const latency = 40 * time.Millisecond
	if err := s.link.Slow(latency, 0, 0); err != nil {
		t.Fatal(err)
	}
	if d := roundTrip(t, client, "slow"); d < 2*latency {
		t.Errorf("round trip took %v, want at least %v", d, 2*latency)
	}
	fresh, peer := s.connect()
	go func() { _, _ = io.Copy(peer, peer) }()
	if d := roundTrip(t, fresh, "new connection"); d < 2*latency {
		t.Errorf("round trip on a new connection took %v, want at least %v", d, 2*latency)
	}
	if err := s.link.Slow(0, 0, 200_000); err != nil {
		t.Fatal(err)
	}
	if d := roundTrip(t, client, string(make([]byte, 40_000))); d < 200*time.Millisecond {
		t.Errorf("40 kB at 200 kB/s took %v", d)
	}
	s.heal()
	quickest := time.Hour
	for range 20 {
		quickest = min(quickest, roundTrip(t, client, "quick"))
	}
	if quickest >= latency {
		t.Errorf("healed, the quickest round trip took %v", quickest)
	}
}

func roundTrip(t *testing.T, c net.Conn, text string) time.Duration {
	t.Helper()
	begin := time.Now()
	send(t, c, text)
	receive(t, c, text)
	return time.Since(begin)
}

// A peer that does not read must not hold up a change of the link, and loses nothing by it.
func TestReshapeWhileNobodyReads(t *testing.T) {
	s := newScene(t)
	client, server := s.connect()
	want := random(32 << 20)
	var wg sync.WaitGroup
	defer wg.Wait()
	var written atomic.Int64
	wg.Go(func() {
		for piece := range slices.Chunk(want, 64<<10) {
			n, _ := client.Write(piece)
			written.Add(int64(n))
		}
		_ = client.(*net.TCPConn).CloseWrite()
	})
	waitFull(t, s.link)
	for _, change := range []func() error{
		func() error { return s.link.Slow(time.Millisecond, time.Millisecond, 0) },
		func() error { return s.link.Slow(0, 0, 1_000_000) },
		// What the delay has buffered must not be lost to the rate behind it, whatever the order of healing.
		func() error { return s.link.Slow(10*time.Millisecond, 0, 1000) },
		func() error {
			waitWritten(t, &written, min(written.Load()+(2<<20), int64(len(want))))
			return s.link.Heal()
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	wantAll(t, server, want)
}

// wantAll reads to the end.
func wantAll(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want)+1)
	n, err := io.ReadFull(c, got)
	if err != io.ErrUnexpectedEOF || !bytes.Equal(got[:n], want) {
		t.Errorf("%d bytes, %v, want %d bytes in order", n, err, len(want))
	}
}

func waitWritten(t *testing.T, n *atomic.Int64, want int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); n.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes were written, want %d", n.Load(), want)
		}
	}
}

// waitFull waits until the link holds as much as it takes.
func waitFull(t *testing.T, l *Link) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		for p := range l.pairs {
			p.up.mu.Lock()
			full := len(p.up.buf) >= outletSize
			p.up.mu.Unlock()
			if full {
				l.mu.Unlock()
				return
			}
		}
		l.mu.Unlock()
	}
	t.Fatal("the link did not fill")
}

// Connections that survive troubles in any order carry every byte in order.
func TestStorm(t *testing.T) {
	s := newScene(t)
	const conns = 4
	want := random(4 << 20)
	var wg sync.WaitGroup
	for range conns {
		client, server := s.connect()
		for _, ends := range [][2]net.Conn{{client, server}, {server, client}} {
			wg.Go(func() {
				_, _ = ends[0].Write(want)
				_ = ends[0].(*net.TCPConn).CloseWrite()
			})
			wg.Go(func() {
				wantAll(t, ends[1], want)
			})
		}
	}
	storm(t, s.link, 300*time.Millisecond, s.link.Heal)
	s.heal()
	wg.Wait()
	waitConns(t, s.link, 0)
}

// Clients and servers that come, go and hang under all troubles leave nothing behind: the leak detector looks.
func TestStormOfConnections(t *testing.T) {
	s := newScene(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.CopyN(c, c, rand.Int64N(1<<20))
				c.Close()
			})
		}
	})
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			text := make([]byte, 256<<10)
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := net.Dial("tcp", s.link.Addr())
				if err != nil {
					continue
				}
				_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
				_, _ = c.Write(text)
				_, _ = io.CopyN(io.Discard, c, rand.Int64N(1<<18))
				c.Close()
			}
		})
	}
	storm(t, s.link, time.Second, func() error { s.link.Cut(); return s.link.Heal() })
	close(done)
	s.link.Stop()
	s.listener.Close()
	wg.Wait()
	if n := s.link.Conns(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// storm gives the link one trouble after the other for a while.
func storm(t *testing.T, l *Link, d time.Duration, another func() error) {
	t.Helper()
	troubles := []func() error{
		another,
		func() error { l.HalfOpen(Direction(rand.IntN(3))); return nil },
		func() error { return l.Slow(time.Millisecond, time.Millisecond, 0) },
		func() error { return l.Slow(time.Millisecond, 0, 50_000_000) },
		func() error { return l.Slow(0, 0, 10_000_000) },
		l.Heal,
	}
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond) {
		if err := troubles[rand.IntN(len(troubles))](); err != nil {
			t.Fatal(err)
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(b)
	return b
}

func BenchmarkThroughput(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	link, err := Start(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer link.Stop()
	client, err := net.Dial("tcp", link.Addr())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	go func() {
		for range b.N {
			if _, err := client.Write(chunk); err != nil {
				return
			}
		}
	}()
	b.ResetTimer()
	if _, err := io.CopyN(io.Discard, server, int64(b.N)*int64(len(chunk))); err != nil {
		b.Fatal(err)
	}
}
