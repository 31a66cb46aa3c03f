package env

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

func init() { child.Register("hook", func(args []string) { child.Fatal(serveHook(args[0])) }) }

// endpoint is one path.
type endpoint struct {
	Arrivals
	status atomic.Int64
}

// receiver answers POST requests and keeps when they came.
type receiver struct {
	mu        sync.RWMutex
	endpoints map[string]*endpoint
	header    atomic.Pointer[http.Header] // of the first request since all was forgotten
}

// serveHook runs the receiver and its control on ports of their own, and writes their URLs to file.
func serveHook(file string) error {
	ctx, stop := child.Context()
	defer stop()
	r := &receiver{endpoints: map[string]*endpoint{}}
	control := http.NewServeMux()
	control.HandleFunc("/fresh", r.fresh)
	control.HandleFunc("/answer", r.answer)
	control.HandleFunc("/count", r.count)
	control.HandleFunc("/times", r.times)
	control.HandleFunc("/header", r.firstHeader)
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	urls := ""
	servers := []*http.Server{{Handler: r}, {Handler: control}, overTLS(r, certificate, false), overTLS(r, certificate, true)}
	failed := make(chan error, len(servers))
	for _, s := range servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if s.TLSConfig == nil {
			urls += "http://" + l.Addr().String() + "\n"
			go func() { failed <- s.Serve(l) }()
			continue
		}
		urls += "https://" + l.Addr().String() + "\n"
		go func() { failed <- s.ServeTLS(l, "", "") }()
	}
	if err := os.WriteFile(file, []byte(urls), 0o644); err != nil {
		return err
	}
	child.Ready()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// at returns the endpoint of a path.
func (r *receiver) at(path string) *endpoint {
	r.mu.RLock()
	e := r.endpoints[path]
	r.mu.RUnlock()
	if e != nil {
		return e
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e = r.endpoints[path]; e == nil {
		e = &endpoint{}
		e.status.Store(http.StatusNoContent)
		r.endpoints[path] = e
	}
	return e
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 4096); return &b }}

// ServeHTTP takes one message.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	now := time.Now()
	if r.header.Load() == nil {
		h := request.Header.Clone()
		r.header.Store(&h)
	}
	e := r.at(request.URL.Path)
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	n, err := io.ReadFull(request.Body, *buffer)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return // the client went away
	}
	status := int(e.status.Load())
	if status == 0 {
		panic(http.ErrAbortHandler) // closes the connection
	}
	if status < 300 {
		e.Add(system.Number((*buffer)[:n]), now)
	}
	w.WriteHeader(status)
}

func (r *receiver) fresh(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints = map[string]*endpoint{}
	r.header.Store(nil)
}

func (r *receiver) answer(w http.ResponseWriter, request *http.Request) {
	status, err := strconv.Atoi(request.FormValue("value"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.at(request.FormValue("path")).status.Store(int64(status))
}

func (r *receiver) count(w http.ResponseWriter, request *http.Request) {
	path, total := request.FormValue("path"), int64(0)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for p, e := range r.endpoints {
		if path == "" || p == path {
			total += e.Count()
		}
	}
	fmt.Fprint(w, total)
}

func (r *receiver) times(w http.ResponseWriter, request *http.Request) {
	times := r.at(request.FormValue("path")).Times()
	out := make([]byte, 0, 8*len(times))
	for _, t := range times {
		out = binary.LittleEndian.AppendUint64(out, uint64(t))
	}
	_, _ = w.Write(out) // whoever asked went away
}
