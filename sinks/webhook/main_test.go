package webhook

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is an HTTP server that keeps what it is sent.
type receiver struct {
	mu  sync.Mutex
	got []sinktest.Received
	err error
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return
	}
	m := sinktest.Received{Payload: body, ContentType: req.Header.Get("Content-Type"), Headers: map[string]string{}}
	for name, values := range req.Header {
		m.Headers[strings.ToLower(name)] = strings.Join(values, "|")
	}
	for name, to := range map[string]*string{
		"Webhook-Id": &m.ID, "Postrider-Topic": &m.Topic, "Postrider-Key": &m.Key, "Postrider-Subscription": &m.Subscription,
	} {
		if *to, err = url.PathUnescape(req.Header.Get(name)); err != nil {
			r.err = err
		}
	}
	if m.Attempt, err = strconv.Atoi(req.Header.Get("Postrider-Attempt")); err != nil {
		r.err = err
	}
	r.got = append(r.got, m)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) received(t *testing.T) []sinktest.Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		t.Fatal(r.err)
	}
	return append([]sinktest.Received(nil), r.got...)
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

func open(t testing.TB, cfg Config) *Sink {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		r := new(receiver)
		proxy := sinktest.NewProxy(t, serve(t, r.ServeHTTP).Listener.Addr().String())
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink {
				s, err := New(Config{URL: "http://" + proxy.Addr() + "/hook", Lanes: 4, Timeout: 10 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Received: func() []sinktest.Received { return r.received(t) },
			Down:     proxy.Down, Hang: proxy.Hang, Up: proxy.Up,
		}
	})
}
