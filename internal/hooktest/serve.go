package hooktest

import (
	"io"
	"net"
	"net/http"
	"time"
)

// serve handles one request.
func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) {
	a := &Arrival{Path: req.URL.Path, Header: req.Header, RemoteAddr: req.RemoteAddr}
	c := req.Context().Value(connKey{}).(*net.TCPConn)
	if r.cutsBefore(a.Path) {
		a.Body, _ = io.ReadAll(io.LimitReader(req.Body, req.ContentLength/2))
		if v, decided := r.decide(a, true, nil); decided {
			act(w, req, c, v)
		}
	}
	err := readRest(req, a)
	v, _ := r.decide(a, false, func() bool { return err != nil || hungUp(c) })
	act(w, req, c, v)
}

// readRest adds to a.Body what is left of the request's body.
func readRest(req *http.Request, a *Arrival) error {
	if len(a.Body) > 0 || req.ContentLength < 0 {
		rest, err := io.ReadAll(req.Body)
		a.Body = append(a.Body, rest...)
		return err
	}
	a.Body = make([]byte, req.ContentLength)
	n, err := io.ReadFull(req.Body, a.Body)
	a.Body = a.Body[:n]
	return err
}

// act does what was decided.
func act(w http.ResponseWriter, req *http.Request, c *net.TCPConn, v verdict) {
	switch v.act {
	case hang:
		wait(req, v, nil)
		abort(c, 0)
	case cutBefore, cutAfter:
		abort(c, 0)
	case halfAnswer:
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnec")
		abort(c, -1)
	case answer:
		respond(w, req, v)
	}
}

func respond(w http.ResponseWriter, req *http.Request, v verdict) {
	if v.delay > 0 {
		timer := time.NewTimer(v.delay)
		defer timer.Stop()
		wait(req, v, timer.C)
	}
	for name, values := range v.header {
		w.Header()[name] = values
	}
	w.WriteHeader(v.status)
}

// wait ends with the timer, the endpoint's next behaviour or the connection.
func wait(req *http.Request, v verdict, timer <-chan time.Time) {
	select {
	case <-timer:
	case <-v.switched:
	case <-req.Context().Done():
	}
}

// abort closes the connection, with a reset if linger is 0, and leaves the handler. It is closed
// before the handler ends, which would else wait for the rest of the body.
func abort(c *net.TCPConn, linger int) {
	_ = c.SetLinger(linger)
	_ = c.Close()
	panic(http.ErrAbortHandler)
}
