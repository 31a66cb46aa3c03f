package callback

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	testKey  = "0123456789abcdef0123456789abcdef"
	otherKey = "fedcba9876543210fedcba9876543210"
)

func newCallbacks(t testing.TB, base string, keys ...string) *URLs {
	t.Helper()
	config := Config{BaseURL: base}
	for _, key := range keys {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		config.Secrets = append(config.Secrets, "file:"+path)
	}
	c, err := NewURLs(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCallbackURL(t *testing.T) {
	mac := hmac.New(sha256.New, []byte(testKey))
	fmt.Fprint(mac, "postrider-callback\nbilling\n42\n1767349445678900")
	signature := base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	want := Attempt{Subscription: "billing", ID: 42, Token: 1767349445678900, Action: "complete"}
	for base, prefix := range map[string]string{
		"https://h": "", "https://h/": "", "http://h:8481/hooks/a%20b//": "/hooks/a%20b", "https://[::1]:9/x": "/x",
	} {
		c := newCallbacks(t, base, testKey, otherKey)
		path := "/callbacks/billing/42/1767349445678900/" + signature
		if got, want := c.URL("billing", 42, 1767349445678900), strings.TrimRight(base, "/")+path; got != want {
			t.Errorf("%s: the URL is %s, want %s", base, got, want)
		}
		for _, path := range []string{prefix + path, path} { // as they come through a proxy that strips, or does not
			if got, err := c.Read(path + "/complete"); err != nil || got != want {
				t.Errorf("%s: %s is %+v, %v", base, path, got, err)
			}
		}
		old := strings.TrimPrefix(newCallbacks(t, "https://h", otherKey).URL("billing", 42, 17), "https://h")
		if _, err := c.Read(old + "/fail"); err != nil {
			t.Errorf("%s: signed with another of the secrets: %v", base, err)
		}
	}
	if url := newCallbacks(t, "", testKey).URL("billing", 42, 1); url != "" {
		t.Errorf("without a base URL there is %s", url)
	}
}

func TestPathsThatAreNoCallbacks(t *testing.T) {
	c := newCallbacks(t, "https://h/base", testKey)
	good := strings.TrimPrefix(c.URL("s", 1, 2), "https://h/base") + "/complete"
	for _, path := range []string{"", "/", "/complete", "/callbacks/s/1/2/complete", "/base/base" + good, "/other" + good, "base" + good, "/base/" + good, good + "/",
		strings.TrimSuffix(good, "/complete"), strings.Replace(good, "callbacks", "Callbacks", 1), strings.TrimPrefix(good, "/"), "/bas%65" + good} {
		if _, err := c.Read(path); !errors.Is(err, ErrNoCallback) {
			t.Errorf("%s: %v, want that it is none", path, err)
		}
	}
}

func TestForgedCallbacks(t *testing.T) {
	c := newCallbacks(t, "https://h", testKey)
	parts := strings.Split(strings.TrimPrefix(c.URL("billing", 42, 17), "https://h")+"/fail", "/")
	signature := parts[5]
	last := map[bool]string{true: "A", false: "B"}[signature[42] == 'B']
	for what, change := range map[string]func(p []string){
		"subscription":            func(p []string) { p[2] = "billing2" },
		"id":                      func(p []string) { p[3] = "43" },
		"token":                   func(p []string) { p[4] = "18" },
		"id and token":            func(p []string) { p[3], p[4] = "4", "217" },
		"an id written otherwise": func(p []string) { p[3] = "042" },
		"a token with a sign":     func(p []string) { p[4] = "+17" },
		"an id that is none":      func(p []string) { p[3] = "x" },
		"an id too large":         func(p []string) { p[3] = "99999999999999999999" },
		"an escaped letter":       func(p []string) { p[2] = "%62illing" },
		"another escape":          func(p []string) { p[2] = "%zz" },
		"no subscription":         func(p []string) { p[2] = "" },
		"signature":               func(p []string) { p[5] = strings.ToUpper(signature) },
		"its first letter":        func(p []string) { p[5] = map[bool]string{true: "A", false: "B"}[signature[0] == 'B'] + signature[1:] },
		"its last bits":           func(p []string) { p[5] = signature[:42] + last },
		"half of it":              func(p []string) { p[5] = signature[:22] },
		"padding":                 func(p []string) { p[5] = signature + "=" },
		"none":                    func(p []string) { p[5] = "" },
		"of another key":          func(p []string) { p[5] = newCallbackSigner([]byte(otherKey))("billing", 42, 17) },
		"of another text":         func(p []string) { p[5] = newCallbackSigner([]byte(testKey))("billing\n42", 17, 1) },
	} {
		changed := append([]string(nil), parts...)
		change(changed)
		if cb, err := c.Read(strings.Join(changed, "/")); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %+v, %v, want that it is forged", what, cb, err)
		}
	}
	// The action is the caller's choice.
	parts[6] = "anything"
	if cb, err := c.Read(strings.Join(parts, "/")); err != nil || cb.Action != "anything" {
		t.Errorf("%+v, %v", cb, err)
	}
}

// A new secret is first known everywhere, then signs; the old one verifies until it is removed.
func TestCallbackSecretsRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
	}
	write("# the first signs\n" + testKey + "\n")
	var log bytes.Buffer
	c, err := NewURLs(Config{BaseURL: "https://h", Secrets: []string{"file:" + path}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	old := newCallbacks(t, "https://h", testKey).URL("s", 1, 2)
	next := newCallbacks(t, "https://h", otherKey).URL("s", 1, 2)
	want := func(stage string, signs string, oldOK, nextOK bool) {
		t.Helper()
		c.secrets[0].Check(time.Now()) // as if a second had passed
		if got := c.URL("s", 1, 2); got != signs {
			t.Errorf("%s: it makes %s, want %s", stage, got, signs)
		}
		for url, ok := range map[string]bool{old: oldOK, next: nextOK} {
			if _, err := c.Read(strings.TrimPrefix(url, "https://h") + "/x"); (err == nil) != ok {
				t.Errorf("%s: %s: %v", stage, url, err)
			}
		}
	}
	want("old alone", old, true, false)
	write(testKey + "\n" + otherKey + "\n")
	want("both", old, true, true)
	write(otherKey + " " + testKey)
	want("both, the new one first", next, true, true)
	write("short")
	want("nonsense", next, true, true)
	write(otherKey)
	want("new alone", next, false, true)
	if text := log.String(); strings.Contains(text, testKey) || strings.Contains(text, otherKey) || strings.Contains(text, "short") ||
		!strings.Contains(text, "it holds a secret of 5 bytes: at least 32 are needed") {
		t.Errorf("the log:\n%s", text)
	}
}

func TestCallbackConfigsThatAreWrong(t *testing.T) {
	t.Setenv("CALLBACK_SHORT", "hush-hush-hush")
	t.Setenv("CALLBACK_GOOD", testKey)
	good := []string{"env:CALLBACK_GOOD"}
	for _, c := range []struct {
		base    string
		secrets []string
		want    string
		valid   bool // as far as that can be said without following references
	}{
		{"ftp://h", good, `it has the scheme "ftp": it must be http or https`, false},
		{"h/x", good, "it must be http or https", false},
		{"https:///x", good, "it names no host", false},
		{"https://u:hush@h/x", good, "it has user info", false},
		{"https://u:hu/sh@h/x", good, "user info", false},
		{"https://h/x?a=hush", good, "it has a query or a fragment", false},
		{"https://h/x?", good, "it has a query or a fragment", false},
		{"https://h/x#hush", good, "it has a query or a fragment", false},
		{"https://h/a/../b", good, "a segment that is empty or dots", false},
		{"https://h/a//b", good, "a segment that is empty or dots", false},
		{"https://h", nil, "callbacks need a secret", true},
		{"https://h", []string{"hush"}, "secret 1 holds something else than a reference", false},
		{"https://h", []string{good[0], "file:hush"}, "secret 2 begins with file:", false},
		{"https://h", []string{"env:CALLBACK_SHORT"}, "secret 1: env:CALLBACK_SHORT: it holds a secret of 14 bytes: at least 32 are needed", true},
		{"https://h", []string{good[0], "env:CALLBACK_NOWHERE"}, "secret 2: the variable CALLBACK_NOWHERE is not set", true},
	} {
		config := Config{BaseURL: c.base, Secrets: c.secrets}
		_, err := NewURLs(config)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s %s: error %v, want %q and no secret", c.base, c.secrets, err, c.want)
		}
		if err := config.Validate(); (err == nil) != c.valid {
			t.Errorf("%s %s: Validate: %v", c.base, c.secrets, err)
		}
	}
	c, err := NewURLs(Config{BaseURL: "https://h", Secrets: good})
	if err != nil {
		t.Fatal(err)
	}
	if shown := fmt.Sprintf("%+v %#v", c, c); strings.Contains(shown, testKey) {
		t.Errorf("the secret shows in %s", shown)
	}
}

// FuzzCallbackPath: whatever comes, only the paths of our own URLs are read as callbacks, and these are.
func FuzzCallbackPath(f *testing.F) {
	c := newCallbacks(f, "https://h/base", testKey)
	own := strings.TrimPrefix(c.URL("billing", 42, 17), "https://h")
	for _, path := range []string{own + "/complete", strings.TrimPrefix(own, "/base") + "/fail", own, own + "/", "/callbacks/a/1/2/x/fail", "//////", "/callbacks//////",
		strings.Replace(own, "/42/", "/042/", 1) + "/fail", strings.Replace(own, "billing", "%62illing", 1) + "/fail", "/base" + own + "/x"} {
		f.Add(path, "billing", int64(42), int64(17))
	}
	f.Add("", "a b/ü\n..%", int64(-1), int64(0))
	f.Fuzz(func(t *testing.T, path, subscription string, id, token int64) {
		made := strings.TrimPrefix(c.URL(subscription, id, token), "https://h")
		want := Attempt{Subscription: subscription, ID: id, Token: token, Action: "complete"}
		for _, path := range []string{made + "/complete", strings.TrimPrefix(made, "/base") + "/complete"} {
			if cb, err := c.Read(path); err != nil || cb != want {
				t.Errorf("%s is %+v, %v", path, cb, err)
			}
		}
		cb, err := c.Read(path)
		if err != nil {
			if err != ErrForged && err != ErrNoCallback || err == ErrNoCallback && cb != (Attempt{}) {
				t.Errorf("%q: %+v, %v", path, cb, err)
			}
			return
		}
		ours := strings.TrimPrefix(c.URL(cb.Subscription, cb.ID, cb.Token), "https://h") + "/" + cb.Action
		if path != ours && "/base"+path != ours {
			t.Errorf("%q is read as %q", path, ours)
		}
	})
}
