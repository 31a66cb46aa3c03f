package receivers

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
	"github.com/postrider/postrider/sinks/webhook"
)

func newSecret(t testing.TB) string {
	t.Helper()
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	return "whsec_" + base64.StdEncoding.EncodeToString(raw)
}

// open returns a sink that signs with these secrets.
func open(t testing.TB, url string, o webhook.Options, secrets ...string) *webhook.Sink {
	t.Helper()
	if len(secrets) > 0 {
		t.Setenv("RECEIVERS_TEST_SECRETS", strings.Join(secrets, " "))
		o.Secrets = []string{"env:RECEIVERS_TEST_SECRETS"}
	}
	s, err := webhook.New(webhook.Config{URL: url, Options: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// wantRefused says that the answer was 401, so that the message is tried again.
func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	if kind, _ := sinks.Classify(err); kind != sinks.KindRetryable || !strings.Contains(err.Error(), "answered 401") {
		t.Errorf("%s: the outcome is %v, want 401", what, err)
	}
}

// sign does by hand what the sink does.
func sign(secret, id, timestamp string, body []byte) string {
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	mac := hmac.New(sha256.New, raw)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// A message is accepted once in whatever format it comes, and again alone out of a batch that came before.
func TestReceiverDropsDuplicates(t *testing.T) {
	each(t, func(t *testing.T, start starter) {
		secret := newSecret(t)
		p := start.run(t, secret)
		for _, format := range []string{webhook.FormatRaw, webhook.FormatBinary, webhook.FormatStructured, webhook.FormatBatch, webhook.FormatNDJSON} {
			s := open(t, p.url, webhook.Options{Format: format}, secret)
			a, b := sinktest.NewDelivery("orders.created", `{"name":"Zoë"}`), sinktest.NewDelivery("orders.created", "\x00\xff\r\n")
			b.JSON = false
			sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, a, b), sinks.KindAccepted, sinks.KindAccepted)
			p.wants(t, "accepted "+a.MessageID, "accepted "+b.MessageID)
			b.Attempt = 2
			sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, b), sinks.KindAccepted)
			p.wants(t, "duplicate "+b.MessageID)
		}
	})
}

// What a message brings along as its own type does not make a batch of it.
func TestReceiverTakesLinesForOneMessage(t *testing.T) {
	each(t, func(t *testing.T, start starter) {
		secret := newSecret(t)
		p := start.run(t, secret)
		s := open(t, p.url, webhook.Options{}, secret)
		d := sinktest.NewDelivery("logs", "no JSON\n")
		d.JSON, d.Headers = false, []byte(`{"content-type":"application/x-ndjson"}`)
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
		p.wants(t, "accepted "+d.MessageID)
	})
}

// Every one of these changes to a request that would be accepted makes it refused, unless it says otherwise.
var changes = map[string]struct {
	change func(r *relayed, secret string)
	fine   bool
}{
	"nothing":                 {func(*relayed, string) {}, true},
	"another body":            {func(r *relayed, _ string) { r.body = []byte(`{"n":2}`) }, false},
	"a longer body":           {func(r *relayed, _ string) { r.body = append(r.body, ' ') }, false},
	"another id":              {func(r *relayed, _ string) { r.header.Set("webhook-id", "test-1-1") }, false},
	"no id":                   {func(r *relayed, _ string) { r.header.Del("webhook-id") }, false},
	"another time":            {func(r *relayed, _ string) { r.header.Set("webhook-timestamp", unix(time.Minute)) }, false},
	"no time":                 {func(r *relayed, _ string) { r.header.Del("webhook-timestamp") }, false},
	"a time that is none":     {func(r *relayed, s string) { r.resign(s, "soon") }, false},
	"signed again":            {func(r *relayed, s string) { r.resign(s, unix(-4*time.Minute)) }, true},
	"signed long ago":         {func(r *relayed, s string) { r.resign(s, unix(-6*time.Minute)) }, false},
	"signed in the future":    {func(r *relayed, s string) { r.resign(s, unix(6*time.Minute)) }, false},
	"no signature":            {func(r *relayed, _ string) { r.header.Del("webhook-signature") }, false},
	"an empty signature":      {func(r *relayed, _ string) { r.header.Set("webhook-signature", "v1,") }, false},
	"half a signature":        {func(r *relayed, _ string) { r.signature(func(s string) string { return s[:24] }) }, false},
	"bytes for a signature":   {func(r *relayed, _ string) { r.header.Set("webhook-signature", "v1,\xff\xfe é") }, false},
	"a signature, other case": {func(r *relayed, _ string) { r.signature(strings.ToUpper) }, false},
	"another scheme":          {func(r *relayed, _ string) { r.signature(func(s string) string { return "v1a" + s[2:] }) }, false},
	"no scheme":               {func(r *relayed, _ string) { r.signature(func(s string) string { return s[3:] }) }, false},
	"one signature of several": {func(r *relayed, _ string) {
		r.signature(func(s string) string { return "v1a,AA== v1,AA== " + s + " v2,x" })
	}, true},
	"signed with an empty key":  {func(r *relayed, _ string) { r.resign("whsec_", unix(0)) }, false},
	"another message's headers": {func(r *relayed, _ string) { r.header.Set("postrider-attempt", "7") }, true}, // these are not signed
}

func TestReceiverRefusesForgeries(t *testing.T) {
	each(t, func(t *testing.T, start starter) {
		secret := newSecret(t)
		p := start.run(t, secret)
		between := newTampering(t, p.url)
		s := open(t, between.url, webhook.Options{}, secret)
		for name, c := range changes {
			between.change = func(r *relayed) { c.change(r, secret) }
			d := sinktest.NewDelivery("orders.created", `{"n":1}`)
			err := sinktest.Deliver(t.Context(), s, d)[0]
			if !c.fine {
				wantRefused(t, name, err)
				p.wants(t, "refused: ")
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			p.wants(t, "accepted "+d.MessageID)
		}
		for name, secrets := range map[string][]string{"another secret": {newSecret(t)}, "no secret": nil} {
			s := open(t, p.url, webhook.Options{}, secrets...)
			wantRefused(t, name, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("orders.created", `{"n":1}`))[0])
			p.wants(t, "refused: ")
		}
	})
}

// While a secret is being replaced, there is always one that both sides know.
func TestReceiverRotatesSecrets(t *testing.T) {
	each(t, func(t *testing.T, start starter) {
		old, next := newSecret(t), newSecret(t)
		for _, c := range []struct{ sender, receiver []string }{
			{[]string{old}, []string{old}},
			{[]string{old}, []string{old, next}},
			{[]string{old, next}, []string{old, next}},
			{[]string{next}, []string{old, next}},
			{[]string{next}, []string{next}},
			// The order that needs one secret at a time on the receiver's side.
			{[]string{old, next}, []string{old}},
			{[]string{old, next}, []string{next}},
		} {
			p := start.run(t, strings.Join(c.receiver, " "))
			s := open(t, p.url, webhook.Options{}, c.sender...)
			d := sinktest.NewDelivery("orders.created", `{"n":1}`)
			sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
			p.wants(t, "accepted "+d.MessageID)
		}
	})
}

// A receiver without a secret does not start: it would have to trust everybody.
func TestReceiverNeedsASecret(t *testing.T) {
	each(t, func(t *testing.T, start starter) {
		for _, secret := range []string{"", " ", "hush", "whsec_", newSecret(t) + " hush"} {
			if reason := start.fails(t, secret); !strings.Contains(reason, "WEBHOOK_SECRET") {
				t.Errorf("with %q it ends with %q, want a word about WEBHOOK_SECRET", secret, reason)
			}
		}
	})
}

// A body without end is not taken into memory.
func TestReceiverBoundsBodies(t *testing.T) {
	each(t, func(t *testing.T, start starter) {
		secret := newSecret(t)
		p := start.run(t, secret)
		s := open(t, p.url, webhook.Options{}, secret)
		d := sinktest.NewDelivery("a", `"`+strings.Repeat("x", 16<<20)+`"`)
		if err := sinktest.Deliver(t.Context(), s, d)[0]; err == nil {
			t.Error("more than 16 MiB were accepted")
		}
		d = sinktest.NewDelivery("a", `"`+strings.Repeat("x", 15<<20)+`"`)
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
	})
}

func unix(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }

// resign makes the signature right for another time.
func (r *relayed) resign(secret, timestamp string) {
	r.header.Set("webhook-timestamp", timestamp)
	r.header.Set("webhook-signature", sign(secret, r.header.Get("webhook-id"), timestamp, r.body))
}

func (r *relayed) signature(change func(string) string) {
	r.header.Set("webhook-signature", change(r.header.Get("webhook-signature")))
}

// relayed is a request on its way.
type relayed struct {
	header http.Header
	body   []byte
}
