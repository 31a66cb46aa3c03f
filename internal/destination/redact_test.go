package destination

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for sink, want := range map[string]string{
		"":                                    "",
		"stdout:":                             "stdout:",
		"https://host/hook?a=b":               "https://host/hook?a=b",
		"https://u:p@host/hook":               "https://xxxxx@host/hook",
		"https://host/hook?token=t&a=b&Sig=s": "https://host/hook?token=xxxxx&a=b&Sig=xxxxx",
		"https://host/hook?api%5Fsecret=t":    "https://host/hook?api%5Fsecret=xxxxx",
		"nats://u:p@a:1,b:2?stream=S":         "nats://xxxxx@a:1,b:2?stream=S",
		"nats://u:p?s@a:1?password=x":         "nats://xxxxx@a:1?password=xxxxx",
		"nats://u:50%@a:1":                    "nats://xxxxx@a:1",
		"nats:u:p@a":                          "nats:xxxxx",
	} {
		if got := Redact(sink); got != want {
			t.Errorf("redact(%q) = %q, want %q", sink, got, want)
		}
	}
	for options, want := range map[string]string{
		`{}`: `{}`,
		`{"secrets":["env:A","geheim"],"rate":2,"basic":"file:/b","proxy":"environment","bearer":"geheim"}`: `{"basic":"file:/b","bearer":"xxxxx","proxy":"environment","rate":2,"secrets":["env:A","xxxxx"]}`,
		`{"headers":{"X-A":"1","Authorization":"geheim","X-Api-Key":"env:K"},"tls":{"key":"/k.pem"}}`:       `{"headers":{"Authorization":"xxxxx","X-A":"1","X-Api-Key":"env:K"},"tls":{"key":"/k.pem"}}`,
		`"geheim"`: `xxxxx`,
		`{"stream":"S","user":"joe","password":"geheim","token":"env:T","nkey":["geheim"],"creds":"file:/c"}`: `{"creds":"file:/c","nkey":["xxxxx"],"password":"xxxxx","stream":"S","token":"env:T","user":"joe"}`,
		`{"bearrer":"geheim","Rate":2,"secret":["geheim","env:A"],"x":{"y":"geheim"}}`:                        `{"Rate":"xxxxx","bearrer":"xxxxx","secret":["xxxxx","env:A"],"x":"xxxxx"}`,
		`{"tls":{"certt":"geheim","ca":"/a"},"guard":"geheim","headers":"X: geheim"}`:                         `{"guard":"xxxxx","headers":"xxxxx","tls":{"ca":"/a","certt":"xxxxx"}}`,
	} {
		if got := RedactOptions([]byte(options)); got != want {
			t.Errorf("redactOptions(%s) = %s, want %s", options, got, want)
		}
	}
	if got := string(RedactSettings([]byte(`{"lanes":2,"bearer":"geheim","option":{"bearer":"geheim"},"options":{"rate":1}}`))); strings.Contains(got, "geheim") || !strings.Contains(got, `"lanes":2`) {
		t.Errorf("settings show as %s", got)
	}
	for text, want := range map[string]string{
		"postgres://u:p@h/db?sslmode=disable": "postgres://u:xxxxx@h/db?sslmode=disable",
		"postgres://u@h/db?password=p":        "postgres://u@h/db?password=xxxxx",
		"host=h user=u password='a b' port=1": "host=h user=u password=xxxxx port=1",
	} {
		if got := RedactDatabase(text); got != want {
			t.Errorf("redactDatabase(%q) = %q, want %q", text, got, want)
		}
	}
}
