package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// receiver is the web server behind the webhooks. /billing is healthy. /fulfilment fails now and then: some first attempts
// get a 500, an outage answers 503 to everything, and one item is not in stock.
type receiver struct {
	book   *ledger
	server *http.Server
	url    string
	flaky  func() bool // fail this first attempt?
	down   atomic.Bool // the outage
	mended atomic.Bool // has everything in stock
	// arrived is told of each message that was accepted.
	arrived func(subscription, topic, wire string)
}

// start listens on a free port of the loopback address.
func (r *receiver) start() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start the webhook receiver: %w", err)
	}
	r.url = "http://" + listener.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go r.server.Serve(listener)
	return nil
}

func (r *receiver) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if r.server.Shutdown(ctx) == nil {
		return nil
	}
	return r.server.Close()
}

// ServeHTTP takes a message for the subscription that the path names.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	subscription, wire := req.URL.Path[1:], req.Header.Get("Webhook-Id")
	var o order
	// What is not an order (sent by hand, with KEEP=1) is welcome too.
	_ = json.NewDecoder(req.Body).Decode(&o)
	status, answer := http.StatusOK, "thank you"
	if subscription == "fulfilment" {
		status, answer = r.fulfil(req.Header, o.Item)
	}
	r.book.saw(subscription, rowID(wire), status == http.StatusOK)
	if status == http.StatusOK {
		r.arrived(subscription, req.Header.Get("Postrider-Topic"), wire)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, answer, status)
}

// fulfil says what /fulfilment answers.
func (r *receiver) fulfil(header http.Header, item string) (status int, answer string) {
	switch {
	case r.down.Load():
		return http.StatusServiceUnavailable, "closed"
	case item == cursedItem && header.Get("Postrider-Topic") == "orders.placed" && !r.mended.Load():
		return http.StatusUnprocessableEntity, "we do not stock " + cursedItem
	case header.Get("Postrider-Attempt") == "" && r.flaky():
		return http.StatusInternalServerError, "the warehouse dropped the parcel"
	}
	return http.StatusOK, "on its way"
}
