// A small receiver of webhooks. It verifies signatures as Standard Webhooks says and drops what it has seen already.
//
//	WEBHOOK_SECRET=whsec_… go run ./examples/receivers/go
//
// While a secret is being replaced, WEBHOOK_SECRET holds the old and the new one, separated by a blank. ADDR is where to
// listen, 127.0.0.1:8080 by default.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	maxBody = 16 << 20 // bytes
	maxSeen = 10_000   // ids
)

// receiver remembers the ids of the latest messages. In production this is a table with a unique key on the id, written in
// the transaction of the effect: only then do both happen or none, whatever crashes, and in all replicas.
type receiver struct {
	secrets [][]byte
	mu      sync.Mutex
	seen    map[string]bool
	order   []string // oldest first
}

func main() {
	secrets, err := parseSecrets(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", l.Addr())
	r := &receiver{secrets: secrets, seen: map[string]bool{}}
	log.Fatal((&http.Server{Handler: r, ReadTimeout: 30 * time.Second}).Serve(l))
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		// A message that is answered with 413 is not sent again.
		status := http.StatusRequestTimeout
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		w.WriteHeader(status)
		return
	}
	if err := verify(r.secrets, req.Header, body, time.Now()); err != nil {
		fmt.Printf("refused: %v\n", err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	events, err := split(req.Header, body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError) // it comes again
		return
	}
	for _, e := range events {
		r.receive(e)
	}
	w.WriteHeader(http.StatusNoContent)
}

// receive has its effect once for each id.
func (r *receiver) receive(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[e.id] {
		fmt.Printf("duplicate %s\n", e.id)
		return
	}
	fmt.Printf("accepted %s, %d bytes\n", e.id, len(e.body)) // the effect
	r.seen[e.id] = true
	if r.order = append(r.order, e.id); len(r.order) > maxSeen {
		delete(r.seen, r.order[0])
		r.order = r.order[1:]
	}
}
