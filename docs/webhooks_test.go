package docs

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/postrider/postrider/sinks/webhook"
)

func blocks(t *testing.T, language string) []string {
	t.Helper()
	page, err := os.ReadFile("webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)\n```").FindAllStringSubmatch(string(page), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("the page has no %s", language)
	}
	return all
}

// Whoever writes a receiver can try it with the request on the page and the secret beside it.
func TestRequestOnThePageVerifies(t *testing.T) {
	page, err := os.ReadFile("webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	secret := regexp.MustCompile("`whsec_([A-Za-z0-9+/]{32,}=*)`").FindSubmatch(page)
	if secret == nil {
		t.Fatal("the page names no secret")
	}
	key, err := base64.StdEncoding.DecodeString(string(secret[1]))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(blocks(t, "http")[0] + "\n")))
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(blocks(t, "http")[0], "\n\n") // the example has no Content-Length
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, req.Header.Get("webhook-id")+"."+req.Header.Get("webhook-timestamp")+"."+body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if got := req.Header.Get("webhook-signature"); got != want {
		t.Errorf("the signature on the page is %s, want %s", got, want)
	}
}

// All options on the page are such as can be set.
func TestOptionsOnThePage(t *testing.T) {
	for _, text := range blocks(t, "yaml") {
		var file struct {
			Subscriptions []struct{ Options map[string]any }
			Options       map[string]any
		}
		if err := yaml.Unmarshal([]byte(text), &file); err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		options := file.Options
		if len(file.Subscriptions) > 0 {
			options = file.Subscriptions[0].Options
		}
		if len(options) == 0 {
			t.Errorf("no options in\n%s", text)
		}
		j, err := json.Marshal(options)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := webhook.ParseOptions(j); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

func TestJSONOnThePage(t *testing.T) {
	for _, text := range blocks(t, "json") {
		if !json.Valid([]byte(text)) {
			t.Errorf("not JSON:\n%s", text)
		}
	}
}
