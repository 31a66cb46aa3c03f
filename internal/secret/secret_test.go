package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSecretsDoNotShow(t *testing.T) {
	const text = "hush-hush"
	s := NewText(text)
	nested := struct{ a, B any }{s, struct{ s Text }{s}}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "secret", s, "nested", nested)
	asJSON, err := json.Marshal(map[string]any{"a": s, "b": &s})
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{string(asJSON), log.String(), s.String(), fmt.Errorf("error: %w", errors.New(s.String())).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, nested))
	}
	for _, one := range shown {
		if strings.Contains(one, text) || strings.Contains(one, fmt.Sprintf("%x", text)) {
			t.Errorf("the secret shows in %s", one)
		}
	}
	if s.Reveal() != text {
		t.Errorf("reveal returns %q", s.Reveal())
	}
}

func TestReferences(t *testing.T) {
	for text, want := range map[string]string{
		"env:A_1":             "env:A_1",
		"file:/run/a b":       "file:/run/a b",
		"file:///run/secrets": "file:/run/secrets",
	} {
		if r, err := ParseReference("bearer", text); err != nil || r.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, r, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                  "bearer holds something else than a reference",
		"hush":              "bearer holds something else than a reference: it must look like env:NAME or file:/path",
		"ENV:hush":          "something else than a reference",
		"env:":              "the name of a variable",
		"env:1hush":         "the name of a variable",
		"env:hu=sh":         "the name of a variable",
		"env:whsec_hush":    "the name of a variable",
		"env:whsk_hush":     "the name of a variable",
		"file:":             "an absolute path",
		"file:hush":         "an absolute path",
		"file://hush":       "an absolute path",
		"file://user@hush/": "an absolute path",
	} {
		_, err := ParseReference("bearer", text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: error %v, want %q and nothing of the text", text, err, want)
		}
	}
}

func TestReadingReferences(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	t.Setenv("POSTRIDER_TEST_SECRET", "from env\n")
	t.Setenv("POSTRIDER_TEST_EMPTY", "")
	for ref, want := range map[string]string{
		"env:POSTRIDER_TEST_SECRET":  "from env",
		file("unix", "one\ntwo\n"):   "one\ntwo",
		file("windows", "one\r\n"):   "one",
		file("blanks", " blanks \n"): " blanks ",
	} {
		if got, err := read(t, ref); err != nil || got != want {
			t.Errorf("%s holds %q, %v, want %q", ref, got, err, want)
		}
	}
	for ref, want := range map[string]string{
		"env:POSTRIDER_TEST_EMPTY":                     "is empty",
		file("empty", "\n"):                            "is empty",
		"file:" + dir:                                  "not a regular file",
		file("long", string(make([]byte, maxBytes+1))): "longer than 65536 bytes",
	} {
		if _, err := read(t, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", ref, err, want)
		}
	}
	for _, ref := range []string{"env:POSTRIDER_TEST_NOT_SET", "file:" + dir + "/none"} {
		if _, err := read(t, ref); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), ref[strings.IndexByte(ref, ':')+1:]) {
			t.Errorf("%s: error %v, want one that names it and wraps fs.ErrNotExist", ref, err)
		}
	}
}

func read(t *testing.T, ref string) (string, error) {
	r, err := ParseReference("test", ref)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Read((*Store)(nil).Own())
	return s.Reveal(), err
}

// logged is a log that a test can look at.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// parseToken stands for what a sink makes of a secret.
func parseToken(text Text) (string, error) {
	if strings.ContainsAny(text.Reveal(), " \n") {
		return "", errors.New("must hold a token")
	}
	return "Bearer " + text.Reveal(), nil
}

func TestWatchedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := new(logged)
	write("first\n")
	w, err := Watch(slog.New(slog.NewTextHandler(log, nil)), (*Store)(nil).Own(), "bearer", "file:"+path, parseToken)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	step := func(what, want string) {
		t.Helper()
		if got := w.Get(now); got != "Bearer "+want {
			t.Errorf("%s: %q is used, want %q", what, got, want)
		}
	}
	later := func() { now = now.Add(RereadInterval) }

	write("other\n") // the same size, and perhaps the same time
	step("changed a moment ago", "first")
	later()
	step("changed", "other")
	write("broken token")
	later()
	step("broken", "other")
	later()
	step("still broken", "other")
	if n := log.count("level=WARN"); n != 1 {
		t.Errorf("trouble was logged %d times, want once", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	later()
	step("gone", "other")
	if n := log.count("level=WARN"); n != 2 {
		t.Errorf("%d troubles were logged, want another one for the missing file", n)
	}
	write("fourth")
	later()
	step("back", "fourth")
	if n := log.count("secret has changed"); n != 2 {
		t.Errorf("%d changes were logged, want 2", n)
	}
	for _, text := range []string{"first", "other", "broken token", "fourth"} {
		if log.count(text) != 0 {
			t.Errorf("the log shows %q", text)
		}
	}
	if shown := fmt.Sprintf("%+v %#v", w, w); strings.Contains(shown, "fourth") {
		t.Errorf("the value shows in %s", shown)
	}
}

func TestWatchErrors(t *testing.T) {
	t.Setenv("POSTRIDER_TEST_SECRET", "hush hush")
	for ref, want := range map[string]string{
		"hush":                       "bearer holds something else than a reference",
		"file:/nowhere/at/all":       "bearer: stat /nowhere/at/all: no such file",
		"env:POSTRIDER_TEST_SECRET":  "bearer: env:POSTRIDER_TEST_SECRET: must hold a token",
		"env:POSTRIDER_TEST_NOT_SET": "bearer: the variable POSTRIDER_TEST_NOT_SET is not set",
	} {
		_, err := Watch(slog.New(slog.DiscardHandler), (*Store)(nil).Own(), "bearer", ref, parseToken)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: error %v, want %q and no secret", ref, err, want)
		}
	}
}
