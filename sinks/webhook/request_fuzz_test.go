package webhook

import (
	"io"
	"net/http"
	"strings"
	"testing"
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
