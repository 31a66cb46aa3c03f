package hooktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a receiver with what it recorded, and a client.
type scene struct {
	*Receiver
	t        testing.TB
	client   *http.Client
	arrivals chan Arrival
}

func newScene(t testing.TB) *scene {
	s := &scene{t: t, arrivals: make(chan Arrival, 1000)}
	r, err := Start(func(a Arrival) { s.arrivals <- a })
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	s.Receiver, s.client = r, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() { r.Stop(); transport.CloseIdleConnections() })
	return s
}

// post returns the status of the answer. A request that net/http may not repeat by itself: it has no GetBody.
func (s *scene) post(ctx context.Context, path, id, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL(path), io.NopCloser(strings.NewReader(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("webhook-id", id)
	resp, err := s.client.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

func (s *scene) want(path, id string, status int) {
	s.t.Helper()
	resp, err := s.post(s.t.Context(), path, id, "body of "+id)
	if err != nil || resp.StatusCode != status {
		s.t.Fatalf("%s: %v, %v, want %d", id, resp, err, status)
	}
}

func (s *scene) wantFailure(path, id string) {
	s.t.Helper()
	if resp, err := s.post(s.t.Context(), path, id, "body of "+id); err == nil {
		s.t.Fatalf("%s was answered with %d", id, resp.StatusCode)
	}
}

// arrived checks the next arrival.
func (s *scene) arrived(path, id string, status int, accepted bool) Arrival {
	s.t.Helper()
	select {
	case a := <-s.arrivals:
		if a.Path != path || a.Header.Get("Webhook-Id") != id || a.Status != status || a.Accepted != accepted {
			s.t.Fatalf("arrival %+v, want %s %s %d %v", a, path, id, status, accepted)
		}
		if a.RemoteAddr == "" || time.Since(a.At) > patience {
			s.t.Fatalf("arrival %+v lacks its sender or time", a)
		}
		return a
	case <-time.After(patience):
		s.t.Fatalf("%s did not arrive", id)
		panic("unreachable")
	}
}

func (s *scene) nothingMore() {
	s.t.Helper()
	select {
	case a := <-s.arrivals:
		s.t.Fatalf("unexpected arrival %+v", a)
	default:
	}
}

func TestAnswers(t *testing.T) {
	s := newScene(t)
	s.want("/a", "1", 204)
	if a := s.arrived("/a", "1", 204, true); string(a.Body) != "body of 1" {
		t.Errorf("body %q", a.Body)
	}
	for _, code := range []int{200, 302, 410, 429, 500, 503} {
		s.Set("/a", Status(code).With("Retry-After", "7"))
		resp, err := s.post(t.Context(), "/a", "2", "")
		if err != nil || resp.StatusCode != code || resp.Header.Get("Retry-After") != "7" {
			t.Fatalf("%v, %v, want %d with Retry-After", resp, err, code)
		}
		s.arrived("/a", "2", code, code == 200)
		s.want("/b", "3", 204) // Another endpoint is not concerned.
		s.arrived("/b", "3", 204, true)
	}
	s.nothingMore()
}

func TestCuts(t *testing.T) {
	s := newScene(t)
	s.Set("/a", CutBefore)
	s.wantFailure("/a", "1")
	if a := s.arrived("/a", "1", 0, false); string(a.Body) != "body" {
		t.Errorf("%q was read of the body, want half of it", a.Body)
	}
	s.Set("/a", CutAfter)
	s.wantFailure("/a", "2")
	s.arrived("/a", "2", 0, true)
	s.Set("/a", HalfAnswer)
	s.wantFailure("/a", "3")
	s.arrived("/a", "3", 0, true)
	s.Set("/a", Accept)
	s.want("/a", "4", 204)
	s.arrived("/a", "4", 204, true)
	s.nothingMore()
}

// A body that is never finished must not keep CutBefore waiting.
func TestCutBeforeInTheMiddle(t *testing.T) {
	s := newScene(t)
	s.Set("/a", CutBefore)
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /a HTTP/1.1\r\nHost: x\r\nWebhook-Id: 1\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat("x", 600_000))
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read ended with %v, want a reset", err)
	}
	if a := s.arrived("/a", "1", 0, false); len(a.Body) != 500_000 {
		t.Errorf("%d bytes were read of the body", len(a.Body))
	}
}

func TestHang(t *testing.T) {
	s := newScene(t)
	s.Set("/a", Hang)
	for id, release := range map[string]func(leave func()){
		"switched": func(func()) { s.Set("/a", Hang) },
		"left":     func(leave func()) { leave() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() { _, err := s.post(ctx, "/a", id, "x"); done <- err }()
		s.arrived("/a", id, 0, false)
		select {
		case err := <-done:
			t.Fatalf("%s: it did not hang: %v", id, err)
		case <-time.After(20 * time.Millisecond):
		}
		release(cancel)
		if err := <-done; err == nil {
			t.Fatalf("%s: it was answered", id)
		}
	}
	s.nothingMore()
}

func TestSlow(t *testing.T) {
	s := newScene(t)
	const late = 60 * time.Millisecond
	s.Set("/a", Slow(late))
	begin := time.Now()
	s.want("/a", "1", 204)
	a := s.arrived("/a", "1", 204, true)
	if d := time.Since(begin); d < late || a.At.After(begin.Add(d-late/2)) {
		t.Errorf("answered after %v, recorded after %v", d, a.At.Sub(begin))
	}
	s.Set("/a", Slow(time.Hour))
	done := make(chan struct{})
	go func() { defer close(done); s.want("/a", "2", 204) }()
	s.arrived("/a", "2", 204, true)
	s.Set("/a", Accept)
	<-done
}

func TestPoison(t *testing.T) {
	s := newScene(t)
	s.Poison("/a", func(id string, body []byte) (int, bool) {
		return map[string]int{"bad": 422, "mute": 0}[id], id == "mute" || id == "bad" && bytes.Equal(body, []byte("body of bad"))
	})
	for range 3 {
		s.want("/a", "bad", 422)
		s.arrived("/a", "bad", 422, false)
		s.want("/a", "good", 204)
		s.arrived("/a", "good", 204, true)
		s.want("/b", "bad", 204)
		s.arrived("/b", "bad", 204, true)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.post(ctx, "/a", "mute", "x"); err == nil {
		t.Error("a mute message was answered")
	}
	s.arrived("/a", "mute", 0, false)
	s.Set("/a", Status(500))
	s.want("/a", "bad", 500)
	s.arrived("/a", "bad", 500, false)
	s.Poison("/a", nil)
	s.Set("/a", Accept)
	s.want("/a", "bad", 204)
	s.arrived("/a", "bad", 204, true)
}

func TestRefuse(t *testing.T) {
	s := newScene(t)
	s.Set("/hang", Hang)
	done := make(chan error)
	go func() { _, err := s.post(t.Context(), "/hang", "1", "x"); done <- err }()
	s.arrived("/hang", "1", 0, false)
	s.want("/a", "2", 204)
	s.arrived("/a", "2", 204, true)
	s.Refuse()
	s.Refuse()
	if err := <-done; err == nil {
		t.Error("a hanging request was answered")
	}
	if _, err := s.post(t.Context(), "/a", "3", "x"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("post to a refusing receiver: %v", err)
	}
	for range 2 {
		if err := s.Open(); err != nil {
			t.Fatal(err)
		}
	}
	s.want("/a", "4", 204)
	s.arrived("/a", "4", 204, true)
	s.nothingMore()
	s.Stop()
	if err := s.Open(); err == nil {
		t.Error("a stopped receiver was opened")
	}
}

// What a client gave up before it was decided is never accepted.
func TestGivenUpIsNotAccepted(t *testing.T) {
	s := newScene(t)
	s.mu.Lock() // Nothing can be decided.
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "POST /a HTTP/1.1\r\nHost: x\r\nWebhook-Id: 1\r\nContent-Length: 4\r\n\r\nbody")
	c.Close()
	s.mu.Unlock()
	s.arrived("/a", "1", 0, false)
	for _, b := range []Behaviour{Accept, Hang} {
		s.Set("/a", b)
		c, err = net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "POST /a HTTP/1.1\r\nHost: x\r\nWebhook-Id: 2\r\nContent-Length: 40\r\n\r\nhalf of it")
		_ = c.(*net.TCPConn).CloseWrite()
		if a := s.arrived("/a", "2", 0, false); string(a.Body) != "half of it" {
			t.Errorf("body %q", a.Body)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("half a request: read ended with %v", err)
		}
		c.Close()
	}
}

// Under load, with everything switched all the time: each request is recorded once, and what the client was told is true.
func TestStorm(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]Arrival{}
	s := newScene(t)
	s.record = func(a Arrival) {
		mu.Lock()
		defer mu.Unlock()
		id := a.Header.Get("Webhook-Id")
		if _, twice := seen[id]; twice {
			t.Errorf("%s was recorded twice", id)
		}
		seen[id] = a
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	var asked atomic.Int64
	told := make([]map[string]int, 8)
	for i := range told {
		told[i] = map[string]int{}
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				id := fmt.Sprintf("%d-%d", i, n)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
				if resp, err := s.post(ctx, "/a", id, strings.Repeat("x", n%5000)); err == nil {
					told[i][id] = resp.StatusCode
				}
				cancel()
				asked.Add(1)
			}
		})
	}
	behaviours := []Behaviour{Accept, Status(500), Hang, CutBefore, CutAfter, HalfAnswer, Slow(5 * time.Millisecond), Slow(time.Second)}
	for i := range 200 {
		s.Set("/a", behaviours[i%len(behaviours)])
		if i%20 == 0 {
			s.Refuse()
			if err := s.Open(); err != nil {
				t.Fatal(err)
			}
		}
		for before := asked.Load(); asked.Load() < before+3; { // each request ends in time
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	wg.Wait()
	s.Stop()
	answers := 0
	for _, m := range told {
		for id, status := range m {
			answers++
			if a := seen[id]; a.Status != status || a.Accepted != (status == 204) {
				t.Errorf("%s was answered with %d, recorded as %+v", id, status, a)
			}
		}
	}
	if answers == 0 {
		t.Error("nothing was answered")
	}
	t.Logf("%d requests recorded, %d answered", len(seen), answers)
}

func BenchmarkAccept(b *testing.B) {
	s := newScene(b)
	n := 0
	s.record = func(Arrival) { n++ }
	body := strings.Repeat("x", 200)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if resp, err := s.post(context.Background(), "/a", "1", body); err != nil || resp.StatusCode != 204 {
				b.Error(resp, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
