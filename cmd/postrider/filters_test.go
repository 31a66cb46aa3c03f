package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// A receiver gets, of what is wanted, what was made of it: signed, with its headers and its topic.
func TestSignatureOfATransformedMessage(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	headers := make(chan http.Header, 100)
	url, received := webhookReceiver(t, func(r *http.Request) int {
		headers <- r.Header
		return http.StatusOK
	})
	key := []byte("0123456789abcdef0123456789abcdef")
	start(t, append(sidecar(db.URL(), url, "orders.>"), "POSTRIDER_SECRET_HOOK=whsec_"+base64.StdEncoding.EncodeToString(key), `POSTRIDER_OPTIONS={"secrets": ["env:POSTRIDER_SECRET_HOOK"]}`,
		"POSTRIDER_FILTER=payload.total > 100", `POSTRIDER_TRANSFORM={"payload": "{\"order\": payload.id}", "headers": "{\"x-source\": topic}", "topic": "\"ledger.\" + topic"}`)...).waitFor("following")
	on(t, db.URL(), "enqueue", "orders.created", `{"id": 1, "total": 50}`).ok()
	on(t, db.URL(), "enqueue", "orders.created", `{"id": 2, "total": 150}`).ok()
	body := receive(t, received)
	h := <-headers
	if body != `{"order":2}` || h.Get("X-Source") != "orders.created" || h.Get("Postrider-Topic") != "ledger.orders.created" {
		t.Errorf("%s arrives, with %v", body, h)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + body))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); h.Get("webhook-signature") != want {
		t.Errorf("the signature is %s, want %s", h.Get("webhook-signature"), want)
	}
}
