package workertest

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/outbox"
)

// Server answers workers as a relay does, out of its memory. Subscriptions need not be made; messages of one key are handed out one at a time.
type Server struct {
	http *httptest.Server

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, by each change
	jobs    []*entry      // by id; a job's is at id - 1
	first   int           // all jobs before this index are over
	tokens  int64
	out     map[string]*entry // by token
	old     map[string]string // tokens that are over, and the answer for them
	workers map[string]*peer  // by incarnation
	beats   int
	quiet   bool
	trouble trouble
	// attempts bounds an entry's.
	attempts int
}

// trouble is what a test has the server do wrong.
type trouble struct {
	cut, deaf int
	refuse    string
	moving    map[string]bool // subscriptions that change hands
	moved     int             // answers that said so
}

// entry is a message of one subscription.
type entry struct {
	State
	id           int64
	subscription string
	message      outbox.Message
	payload      json.RawMessage
	created, due time.Time
	token        string // of the attempt that is out
	holder       *peer
	handedOut    time.Time
	cancelled    bool
}

// peer is a worker's incarnation.
type peer struct{ seen time.Time }

// NewServer starts a server on a loopback port, until the test ends.
func NewServer(t testing.TB) *Server {
	s := &Server{changed: make(chan struct{}), out: map[string]*entry{}, old: map[string]string{}, workers: map[string]*peer{}, trouble: trouble{moving: map[string]bool{}}, attempts: 10}
	s.http = httptest.NewServer(s.handler())
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// URL is what worker.Pull needs.
func (s *Server) URL() string { return s.http.URL }

// Add enqueues a message for a subscription and returns its id. It panics if the payload cannot be marshalled.
func (s *Server) Add(subscription string, m outbox.Message) int64 {
	e := &entry{State: State{State: pending}, subscription: subscription, message: m, created: time.Now(), due: m.DeliverAt}
	if m.Body == nil {
		var err error
		if e.payload, err = json.Marshal(m.Payload); err != nil {
			panic(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, e)
	e.id = int64(len(s.jobs))
	s.change()
	return e.id
}

// RefusedAfter is a time for worker.Retry that the server refuses as nonsense.
const RefusedAfter = 123456789 * time.Nanosecond

// State returns what became of a message so far.
func (s *Server) State(id int64) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[id-1].State
}

// Await waits until the message is in that state, and returns it; the test ends if that takes more than half a minute.
func (s *Server) Await(t testing.TB, id int64, state string) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		s.mu.Lock()
		got, changed := s.jobs[id-1].State, s.changed
		s.mu.Unlock()
		if got.State == state {
			return got
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("message %d is %+v, not %s", id, got, state)
		}
	}
}

// Cancel cancels a message: at once, or if it is out, when its worker has heard of it and let go.
func (s *Server) Cancel(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.jobs[id-1]
	e.cancelled = true
	if e.token == "" {
		e.State.State = cancelled
	}
	s.change()
}

// Lose takes a message away from its worker, as when its time is over: the attempt counts, and others may take it at once.
func (s *Server) Lose(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.jobs[id-1]; e.token != "" {
		s.lose(e)
	}
	s.change()
}

// Quiet asks all workers to take nothing, or to go on.
func (s *Server) Quiet(quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = quiet
	s.change()
}

// Move makes a subscription one that changes hands, until it is called again with false: what is said of its jobs is answered "moving", and
// settles nothing.
func (s *Server) Move(subscription string, moving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble.moving[subscription] = moving
}

// Moved is how many items were answered "moving".
func (s *Server) Moved() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble.moved
}

// LoseAnswers lets the answers of the next n requests get lost after what they ask for was done.
func (s *Server) LoseAnswers(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble.cut = n
}

// Refuse answers all requests with 400 and this detail; empty: no longer.
func (s *Server) Refuse(detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble.refuse = detail
}

// LoseRequests lets the next n requests get lost before anything of them is done.
func (s *Server) LoseRequests(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble.deaf = n
}

// Beats is how many beats have come.
func (s *Server) Beats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beats
}

// change wakes all who wait. The lock is held.
func (s *Server) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}
