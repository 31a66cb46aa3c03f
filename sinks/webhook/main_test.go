package webhook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(receiverEnv) != "" {
		beReceiver()
		return
	}
	goleak.VerifyTestMain(m)
}

// receiver is an HTTP server that keeps what it is sent.
type receiver struct {
	mu       sync.Mutex
	got      []sinktest.Received
	requests []sinktest.Received // as they came, in whatever format
	err      error
	held     map[string]chan struct{} // by key: closed when its request may go on
}

// hold keeps requests with that key waiting until the function that it returns is called.
func (r *receiver) hold(key string) (letGo func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gate := make(chan struct{})
	r.held = map[string]chan struct{}{key: gate}
	return func() { close(gate) }
}

// await waits while a request is held.
func (r *receiver) await(req *http.Request) {
	r.mu.Lock()
	gate := r.held[req.Header.Get("Postrider-Key")]
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.await(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return
	}
	m := sinktest.Received{Payload: body, ContentType: req.Header.Get("Content-Type"), Headers: map[string]string{}}
	for name, values := range req.Header {
		m.Headers[strings.ToLower(name)] = strings.Join(values, "|")
	}
	r.requests = append(r.requests, m)
	events, err := parseRequest(m)
	if err != nil {
		r.err = err
	}
	r.got = append(r.got, events...)
	w.WriteHeader(http.StatusNoContent)
}

// parseRequest returns the messages of a request in any format.
func parseRequest(m sinktest.Received) ([]sinktest.Received, error) {
	switch m.ContentType {
	case eventType:
		return parseEvents(m, m.Payload)
	case linesType:
		return parseEvents(m, bytes.Split(bytes.TrimSuffix(m.Payload, []byte("\n")), []byte("\n"))...)
	case batchType:
		var raw []json.RawMessage
		err := json.Unmarshal(m.Payload, &raw)
		events := make([][]byte, len(raw))
		for i := range raw {
			events[i] = raw[i]
		}
		all, errEvent := parseEvents(m, events...)
		return all, errors.Join(err, errEvent)
	}
	var err error
	for name, to := range map[string]*string{
		"webhook-id": &m.MessageID, "postrider-topic": &m.Topic, "postrider-key": &m.Key, "postrider-subscription": &m.Subscription,
	} {
		if *to, err = url.PathUnescape(m.Headers[name]); err != nil {
			return nil, err
		}
	}
	m.Attempt, err = strconv.Atoi(cmp.Or(m.Headers["postrider-attempt"], "1"))
	return []sinktest.Received{m}, err
}

func (r *receiver) received(t *testing.T) []sinktest.Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		t.Fatal(r.err)
	}
	return append([]sinktest.Received(nil), r.got...)
}

// last returns the last request as it came.
func (r *receiver) last(t *testing.T) sinktest.Received {
	r.received(t)
	if len(r.requests) == 0 {
		t.Fatal("no request came")
	}
	return r.requests[len(r.requests)-1]
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
	sinktest.RunSender(t, func(t *testing.T) *sinktest.Harness {
		r := new(receiver)
		link := linktest.New(t, serve(t, r.ServeHTTP).Listener.Addr().String())
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink {
				s, err := New(Config{URL: "http://" + link.Addr() + "/hook", Lanes: 4, Timeout: 10 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Received: func() []sinktest.Received { return r.received(t) },
			Down:     link.Down, Hang: link.Hang, Up: link.Up, Hold: r.hold,
		}
	})
}
