package hooktest

import (
	"net/http"
	"time"
)

// Arrival is one request and what became of it.
type Arrival struct {
	Path       string
	Header     http.Header
	Body       []byte // what was read of it
	RemoteAddr string
	At         time.Time // when it was decided
	Status     int       // of the answer, 0 if there is none
	Accepted   bool      // taken, even if the client is not told
}

// Predicate picks messages out by their id (the header webhook-id) and body. If ok, the message is answered with
// status, or left without an answer if that is 0. It must be quick, and must not call the Receiver.
type Predicate func(id string, body []byte) (status int, ok bool)

// endpoint is one path. Its fields change under Receiver.mu.
type endpoint struct {
	behaviour Behaviour
	switched  chan struct{} // closed when the behaviour is replaced
	poison    Predicate
}

// Set switches what the endpoint at path does.
func (r *Receiver) Set(path string, b Behaviour) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.endpoint(path)
	close(e.switched)
	e.switched = make(chan struct{})
	e.behaviour = b
}

// Poison makes the messages that p picks fail at the endpoint at path while it accepts others; nil ends it.
func (r *Receiver) Poison(path string, p Predicate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoint(path).poison = p
}

func (r *Receiver) endpoint(path string) *endpoint {
	e := r.endpoints[path]
	if e == nil {
		e = &endpoint{behaviour: Accept, switched: make(chan struct{})}
		r.endpoints[path] = e
	}
	return e
}

func (r *Receiver) cutsBefore(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endpoint(path).behaviour.act == cutBefore
}

// verdict is what was decided about one request.
type verdict struct {
	Behaviour
	switched <-chan struct{}
}

// decide decides about a request, records it and returns what to do. With early set it decides only if the
// endpoint cuts requests before they are read.
func (r *Receiver) decide(a *Arrival, early bool, gone func() bool) (v verdict, decided bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.endpoint(a.Path)
	v = verdict{e.behaviour, e.switched}
	if early && v.act != cutBefore {
		return v, false
	}
	if e.poison != nil && v.act == answer && v.accepts() {
		if status, ok := e.poison(a.Header.Get("Webhook-Id"), a.Body); ok {
			v.Behaviour = poisoned(status)
		}
	}
	if v.act != cutBefore && gone() {
		v.Behaviour = Behaviour{act: cutBefore}
	}
	a.At, a.Status, a.Accepted = time.Now(), v.answered(), v.accepts()
	r.record(*a)
	return v, true
}

func poisoned(status int) Behaviour {
	if status == 0 {
		return Hang
	}
	return Status(status)
}
