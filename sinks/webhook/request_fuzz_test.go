package webhook

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/secret"
)

// What a receiver answers to a batch is input from outside.
func FuzzResults(f *testing.F) {
	s, err := New(Config{URL: "http://host.invalid"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	for _, text := range []string{`{"results":[{"id":"a","status":204}]}`, `{"results":null}`, `{"results":{}}`, `[]`, `{"results":[{"id":"a","status":503,"retry_after":-1e300}]}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text))}
		results, err := s.readResults(res)
		if err != nil && results != nil {
			t.Fatalf("results %v and the error %v", results, err)
		}
		for id, err := range results {
			if err != nil && (strings.ContainsAny(err.Error(), "\r\n\x00") || len(err.Error()) > 1000) {
				t.Fatalf("the reason for %q is %q", id, err)
			}
		}
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != text {
			t.Fatalf("%q is left of the body, %v", rest, err)
		}
	})
}

// Text that cannot be a secret must neither sign nor show.
func FuzzSecrets(f *testing.F) {
	for _, text := range []string{sampleSecret, "# x\n" + sampleSecret, "whsk_AAAA", "whpk_", "whsec_\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseSigners(secret.NewText(text))
		if (err == nil) != (len(all) > 0) {
			t.Fatalf("%d signers and the error %v", len(all), err)
		}
		for word := range strings.FieldsSeq(text) {
			if err != nil && strings.HasPrefix(word, "wh") && len(word) > 12 && strings.Contains(err.Error(), word) {
				t.Fatalf("the error %q shows %q", err, word)
			}
		}
	})
}
