package webhook

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook/internal/transport"
)

const (
	maxDrain   = 64 << 10 // of a response's body; a longer one costs its connection
	maxSnippet = 200      // bytes of an error's body in the reason
)

// answered turns a response into an outcome and makes its connection ready for the next request.
func (s *Sink) answered(r *request, res *http.Response) error {
	defer res.Body.Close()
	kind, control := s.kindOf(res.StatusCode), deliveryControl(res.Header)
	if kind == sinks.KindAccepted {
		outcome := s.leased(r, res)
		if outcome == nil {
			outcome = sinks.Accepted(s.result(res))
			s.receipt(r, res)
		}
		drain(res.Body)
		if control == controlDisable {
			s.disable(res)
		}
		return outcome
	}
	switch control {
	case controlAbort:
		kind = sinks.KindPermanent
	case controlDisable:
		kind = sinks.KindGone
	}
	return outcome(kind, s.reason(res, control), s.retryAfter(res.Header, time.Now()))
}

// disable makes all that is still to come Gone: the message that was answered is delivered, so that only the next one can
// say so.
func (s *Sink) disable(res *http.Response) {
	err := sinks.Gone(fmt.Errorf("%s answered %d %s%s", s.name, res.StatusCode, http.StatusText(res.StatusCode), asked[controlDisable]))
	s.flow.End(err)
	s.log.Warn("the destination has accepted a message and asks for no more", "host", s.url.Host)
}

// asked says in a reason what the header webhook-delivery asks for.
var asked = map[control]string{
	controlAbort:   ", with webhook-delivery: abort-message",
	controlDisable: ", with webhook-delivery: disable",
}

// start returns the first bytes of a body, up to n, and makes its connection ready for the next request.
func start(res *http.Response, n int) []byte {
	text := make([]byte, n)
	// A body that breaks off takes nothing from the status.
	n, _ = io.ReadFull(res.Body, text)
	drain(res.Body)
	return text[:n]
}

const drainBuffer = 4 << 10

var drainBuffers = sync.Pool{New: func() any { return new([drainBuffer]byte) }}

// drain reads what is left, so that the connection can be used again.
func drain(body io.Reader) {
	if body == http.NoBody {
		return
	}
	buf := drainBuffers.Get().(*[drainBuffer]byte)
	defer drainBuffers.Put(buf)
	// On an error, or with more to come, Close drops the connection.
	for n := 0; n < maxDrain; {
		m, err := body.Read(buf[:])
		if err != nil {
			return
		}
		n += m
	}
}

func (s *Sink) reason(res *http.Response, control control) error {
	text := fmt.Sprintf("%s answered %d %s", s.name, res.StatusCode, http.StatusText(res.StatusCode))
	text = strings.TrimSpace(text) + asked[control]
	if location := res.Header.Get("Location"); location != "" && res.StatusCode/100 == 3 {
		text += fmt.Sprintf(", a redirect to %s, which is not followed: change the URL", s.redact(location))
	}
	// A secret that the destination echoes is recognized before anything is cut off or made printable.
	snippet := transport.Printable(s.secrets.RedactStart(start(res, maxSnippet+s.secrets.Longest()), maxSnippet))
	if snippet != "" {
		text += ": " + snippet
	}
	return errors.New(text)
}

// redact shows where a redirect leads, without user info, query and what it has of our own path, any of which may hold a secret.
func (s *Sink) redact(location string) string {
	u, err := s.url.Parse(location)
	if err != nil {
		return "an address that cannot be parsed"
	}
	path := s.hideOwn(u.EscapedPath())
	for text, n := u.EscapedPath(), 0; n < maxEncodings; n++ {
		if s.secrets.Redact(text) != text {
			path = "/…"
		}
		if plain, err := url.PathUnescape(text); err == nil && plain != text {
			text = plain
		} else {
			text = html.UnescapeString(text)
		}
	}
	return transport.Printable([]byte(s.secrets.Redact(u.Scheme + "://" + u.Host + path)))
}

// maxEncodings is how many times over a redirect's path may be encoded for a secret in it to be found.
const maxEncodings = 4

// hideOwn puts … in place of the path's segments that begin like one of ours.
func (s *Sink) hideOwn(path string) string {
	var shown []string
	for segment := range strings.SplitSeq(path, "/") {
		if s.isOwn(segment) {
			if n := len(shown); n > 0 && shown[n-1] == "…" {
				continue
			}
			segment = "…"
		}
		shown = append(shown, segment)
	}
	return strings.Join(shown, "/")
}

func (s *Sink) isOwn(segment string) bool {
	plain, err := url.PathUnescape(segment)
	if err != nil {
		return true
	}
	for own := range strings.SplitSeq(s.url.Path, "/") {
		if own != "" && strings.HasPrefix(plain, own) {
			return true
		}
	}
	return false
}
