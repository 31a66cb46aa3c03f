package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
	"github.com/postrider/postrider/sinks/webhook/internal/sign"
)

const sampleSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func encodeSecret(prefix string, n int) string {
	raw := make([]byte, n)
	for i := range raw {
		raw[i] = byte(i * 7)
	}
	return prefix + base64.StdEncoding.EncodeToString(raw)
}

func keyPair(t testing.TB) (private string, public ed25519.PublicKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return "whsk_" + base64.StdEncoding.EncodeToString(key), public
}

// signersOf returns the signers of secrets in an environment variable.
func signersOf(t testing.TB, secrets string) sign.Signers {
	t.Helper()
	t.Setenv("POSTRIDER_TEST_SECRET", secrets)
	w, err := secret.Watch(slog.New(slog.DiscardHandler), (*secret.Store)(nil).Own(), "secrets[0]", "env:POSTRIDER_TEST_SECRET", sign.Parse)
	if err != nil {
		t.Fatal(err)
	}
	return sign.Signers{w}
}

func TestRequestsAreSigned(t *testing.T) {
	private, public := keyPair(t)
	t.Setenv("POSTRIDER_TEST_A", sampleSecret)
	t.Setenv("POSTRIDER_TEST_B", private)
	r := new(receiver)
	url := serve(t, r.ServeHTTP).URL
	for _, format := range []string{FormatRaw, FormatBinary, FormatStructured, FormatBatch, FormatNDJSON} {
		s := open(t, Config{URL: url, Options: Options{Format: format, Secrets: []string{"env:POSTRIDER_TEST_A", "env:POSTRIDER_TEST_B"}}})
		d := sinktest.NewDelivery("orders.created", `{"n": 1}`)
		d.Message.MessageID = "a.b c" // no such id comes from the relay
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
		got := r.last(t)
		id, at := got.Headers["webhook-id"], got.Headers["webhook-timestamp"]
		if strings.ContainsAny(id, ". ") {
			t.Errorf("%s: webhook-id is %q", format, id)
		}
		want := signersOf(t, sampleSecret).Header(time.Now(), id, at, got.Payload)
		v1, v1a, _ := strings.Cut(got.Headers["webhook-signature"], " ")
		sig, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(v1a, "v1a,"))
		if v1 != want || err != nil || !ed25519.Verify(public, []byte(id+"."+at+"."+string(got.Payload)), sig) {
			t.Errorf("%s: the signature %q does not verify", format, got.Headers["webhook-signature"])
		}
	}
	s := open(t, Config{URL: url})
	sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
	for _, name := range []string{"webhook-signature", "webhook-timestamp"} {
		if got, ok := r.last(t).Headers[name]; ok {
			t.Errorf("a subscription without secrets signs: %s is %q", name, got)
		}
	}
}
