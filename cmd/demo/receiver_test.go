package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestReceiverFailsNowAndThen(t *testing.T) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	post := func(r *receiver, path, topic, attempt, item string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+path, strings.NewReader(`{"item": "`+item+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Webhook-Id": {"source-7-1"}, "Postrider-Topic": {topic}, "Postrider-Attempt": {attempt}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res
	}
	for _, c := range []struct {
		name, path, topic, attempt, item string
		flaky, down, mended              bool
		want                             int
	}{
		{name: "well", path: "/fulfilment", topic: "orders.placed", item: "a map", want: 200},
		{name: "flaky", path: "/fulfilment", topic: "orders.placed", item: "a map", flaky: true, want: 500},
		{name: "second attempt", path: "/fulfilment", topic: "orders.placed", attempt: "2", item: "a map", flaky: true, want: 200},
		{name: "outage", path: "/fulfilment", topic: "orders.placed", attempt: "2", item: "a map", down: true, want: 503},
		{name: "cursed", path: "/fulfilment", topic: "orders.placed", attempt: "2", item: cursedItem, want: 422},
		{name: "cursed and paid for", path: "/fulfilment", topic: "orders.paid", item: cursedItem, want: 200},
		{name: "mended", path: "/fulfilment", topic: "orders.placed", item: cursedItem, mended: true, want: 200},
		{name: "billing", path: "/billing", topic: "payments.captured", item: cursedItem, flaky: true, down: true, want: 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			arrived := ""
			r := &receiver{book: newLedger(), flaky: func() bool { return c.flaky }, arrived: func(_, _, wire string) { arrived = wire }}
			r.down.Store(c.down)
			r.mended.Store(c.mended)
			if err := r.start(); err != nil {
				t.Fatal(err)
			}
			res := post(r, c.path, c.topic, c.attempt, c.item)
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			if res.StatusCode != c.want {
				t.Errorf("answered %d, want %d", res.StatusCode, c.want)
			}
			if asked := res.Header.Get("Retry-After") != ""; asked != (c.want == 503) {
				t.Errorf("asked for a rest: %v", asked)
			}
			seen := r.book.sightings[c.path[1:]]
			if len(seen) != 1 || seen[0].id != 7 || seen[0].accepted != (c.want == 200) || (arrived != "") != seen[0].accepted {
				t.Errorf("the ledger has %+v, arrived %q", seen, arrived)
			}
		})
	}
}
