package interop

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook"
)

// rotating is a receiver that knows one set of keys at a time.
type rotating struct {
	keys     atomic.Pointer[keys]
	requests atomic.Int64
	bad      atomic.Int64
	reason   atomic.Pointer[error]
	last     atomic.Pointer[string] // signatures of the last request
}

func (r *rotating) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	// The keys that count are those at the time of arrival.
	k := r.keys.Load()
	body, err := io.ReadAll(req.Body)
	if err == nil {
		err = k.verify(req.Header, body)
	}
	if err != nil {
		r.bad.Add(1)
		r.reason.Store(&err)
		w.WriteHeader(http.StatusUnauthorized)
	}
	r.last.Store(new(req.Header.Get("Webhook-Signature")))
	r.requests.Add(1)
}

// A file goes from old keys to both and to the new ones, while the receiver changes over, under load: every single
// request verifies. Both ways in which files are replaced are tried.
func TestRotationUnderLoad(t *testing.T) {
	for name, replace := range map[string]func(path, text string) error{
		"written over": func(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) },
		"renamed": func(path, text string) error {
			if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
	} {
		t.Run(name, func(t *testing.T) { rotate(t, replace) })
	}
}

func rotate(t *testing.T, replace func(path, text string) error) {
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(all ...keys) {
		t.Helper()
		var b strings.Builder
		for _, k := range all {
			fmt.Fprintf(&b, "%s\n%s\n", k.hmac, k.private)
		}
		if err := replace(path, b.String()); err != nil {
			t.Fatal(err)
		}
	}
	current := newKeys(t)
	write(current)
	r := new(rotating)
	r.keys.Store(&current)
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	traffic := startLoad(t, open(t, srv.URL, webhook.Options{Secrets: []string{"file:" + path}}))
	defer traffic.stop()
	wait := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within a minute", what)
			}
			n := r.requests.Load()
			for r.requests.Load() == n && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	signatures := func() int {
		if last := r.last.Load(); last != nil {
			return len(strings.Fields(*last))
		}
		return 0
	}
	more := func() {
		t.Helper()
		n := r.requests.Load() + 200
		wait("200 more requests", func() bool { return r.requests.Load() >= n })
	}
	// flush waits until no request is under way that was signed before.
	flush := func() {
		t.Helper()
		var before [lanes]int64
		for i := range before {
			before[i] = traffic.delivered[i].Load()
		}
		for i := range before {
			wait("two more deliveries in each lane", func() bool { return traffic.delivered[i].Load() >= before[i]+2 })
		}
	}
	more()
	for range 2 {
		next := newKeys(t)
		write(current, next)
		wait("signatures by both", func() bool { return signatures() == 4 })
		flush()
		r.keys.Store(&next)
		more()
		write(next)
		wait("signatures by the new ones alone", func() bool { return signatures() == 2 })
		more()
		current = next
	}
	traffic.stop()
	if r.bad.Load() != 0 {
		t.Fatalf("%d of %d requests could not be verified: %v", r.bad.Load(), r.requests.Load(), *r.reason.Load())
	}
	t.Logf("%d requests, all verified", r.requests.Load())
}

const lanes = 4

// load is traffic in several lanes at once.
type load struct {
	end       atomic.Bool
	wg        sync.WaitGroup
	delivered [lanes]atomic.Int64
}

func startLoad(t *testing.T, s *webhook.Sink) *load {
	l := new(load)
	for i := range lanes {
		l.wg.Go(func() {
			for !l.end.Load() {
				batch, outcomes := []sinks.Delivery{samples()[1].Delivery}, make([]error, 1)
				s.Deliver(t.Context(), batch, outcomes)
				l.delivered[i].Add(1)
			}
		})
	}
	return l
}

func (l *load) stop() {
	l.end.Store(true)
	l.wg.Wait()
}
