package interop

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook"
)

// formats are those of CloudEvents.
var formats = []string{webhook.FormatBinary, webhook.FormatStructured, webhook.FormatBatch, webhook.FormatNDJSON}

// keys are the secrets of one endpoint. The public key is the receiver's.
type keys struct{ hmac, private, public string }

func newKeys(t testing.TB) keys {
	t.Helper()
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	return keys{"whsec_" + encode(secret), "whsk_" + encode(private), "whpk_" + encode(public)}
}

// verify checks the signature v1 with the library, and v1a by itself, as the library knows v1 only.
func (k keys) verify(h http.Header, body []byte) error {
	v1, err := standardwebhooks.NewWebhook(k.hmac)
	if err != nil {
		return err
	}
	if err := v1.Verify(body, h); err != nil {
		return err
	}
	public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(k.public, "whpk_"))
	if err != nil {
		return err
	}
	signed := fmt.Appendf(nil, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	if !slices.ContainsFunc(strings.Split(h.Get("webhook-signature"), " "), func(one string) bool {
		version, encoded, _ := strings.Cut(one, ",")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		return version == "v1a" && err == nil && ed25519.Verify(public, signed, signature)
	}) {
		return fmt.Errorf("no v1a signature in %q verifies", h.Get("webhook-signature"))
	}
	return nil
}

// setEnv makes the secrets available to a sink, and returns the references.
func (k keys) setEnv(t *testing.T) []string {
	t.Setenv("INTEROP_HMAC", k.hmac)
	t.Setenv("INTEROP_PRIVATE", k.private)
	return []string{"env:INTEROP_HMAC", "env:INTEROP_PRIVATE"}
}

func open(t testing.TB, url string, o webhook.Options) *webhook.Sink {
	t.Helper()
	s, err := webhook.New(webhook.Config{URL: url, Lanes: 8, Options: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func deliver(t testing.TB, s *webhook.Sink, batch ...sinks.Delivery) {
	t.Helper()
	outcomes := make([]error, len(batch))
	s.Deliver(t.Context(), batch, outcomes)
	for i, err := range outcomes {
		if err != nil {
			t.Errorf("message %s: %v", batch[i].MessageID, err)
		}
	}
}

// sample is a message and what a receiver should make of it.
type sample struct {
	sinks.Delivery
	contentType string
}

// samples are the same on every call. Bytes that are not UTF-8 come last: the library for JavaScript verifies text only.
func samples() []sample {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	message := func(n int, key, payload string, json bool, headers string) sinks.Delivery {
		return sinks.Delivery{
			Message: &sinks.Message{
				ID: int64(n), MessageID: fmt.Sprintf("5eed0123-%d-%d", n, at.UnixMicro()), Topic: "orders.created", Key: key,
				Payload: []byte(payload), JSON: json, Headers: []byte(headers), CreatedAt: at,
			},
			Subscription: "billing", Attempt: 1,
		}
	}
	const json, bytes = "application/json", "application/octet-stream"
	return []sample{
		{message(1, "", `{"id": 42, "total": 99.90, "name": "Zoë <&> ☃"}`, true, ""), json},
		{message(2, "customer-7", `[1, {"a": null}]`, true, `{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`), json},
		{message(3, "k", `{"v": 2}`, true, `{"Content-Type":"application/vnd.shop+json","X-Shop-Id":"7"}`), "application/vnd.shop+json"},
		{message(4, "k2", "<order/>", false, `{"content-type":"application/xml"}`), "application/xml"},
		{message(5, "k3", "\x00\xff\xfe", false, ""), bytes},
	}
}
