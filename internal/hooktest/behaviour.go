package hooktest

import (
	"net/http"
	"time"
)

// Behaviour is what an endpoint does with a request.
type Behaviour struct {
	act    action
	status int
	header http.Header
	delay  time.Duration
}

type action int

const (
	answer action = iota
	hang
	cutBefore
	cutAfter
	halfAnswer
)

// accepted is the status of an accepted request.
const accepted = http.StatusNoContent

var (
	// Accept answers 204. It is what an endpoint does that was never set.
	Accept = Behaviour{status: accepted}
	// Hang reads the request and never answers. When the behaviour is switched or the client leaves, the connection is closed.
	Hang = Behaviour{act: hang}
	// CutBefore resets the connection in the middle of the request's body, or of nothing if it has none.
	CutBefore = Behaviour{act: cutBefore}
	// CutAfter accepts the request, then resets the connection without an answer.
	CutAfter = Behaviour{act: cutAfter, status: accepted}
	// HalfAnswer accepts the request, then closes the connection in the middle of the answer's header.
	HalfAnswer = Behaviour{act: halfAnswer, status: accepted}
)

// Slow accepts the request and answers 204 after d, or as soon as the behaviour is switched.
func Slow(d time.Duration) Behaviour { return Behaviour{status: accepted, delay: d} }

// Status answers with a status code. The request counts as accepted if it is a 2xx.
func Status(code int) Behaviour { return Behaviour{status: code} }

// With returns the behaviour with a header field added to its answers, such as Retry-After.
func (b Behaviour) With(name, value string) Behaviour {
	if b.header = b.header.Clone(); b.header == nil {
		b.header = http.Header{}
	}
	b.header.Add(name, value)
	return b
}

// accepts says whether a request is taken, whether or not the client will hear of it.
func (b Behaviour) accepts() bool { return b.status/100 == 2 }

// answered is the status that the client is about to see, 0 if none.
func (b Behaviour) answered() int {
	if b.act != answer {
		return 0
	}
	return b.status
}
