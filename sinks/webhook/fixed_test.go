package webhook

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestFixedHeaders(t *testing.T) {
	t.Setenv("POSTRIDER_TEST_BASIC", "joe:p@ss:word\n")
	t.Setenv("POSTRIDER_TEST_TOKEN", " tk-1 \n")
	r := new(receiver)
	url := serve(t, r.ServeHTTP).URL
	for _, c := range []struct {
		o    Options
		want map[string]string
	}{
		{Options{Basic: "env:POSTRIDER_TEST_BASIC"}, map[string]string{"authorization": "Basic am9lOnBAc3M6d29yZA=="}},
		{Options{Bearer: "env:POSTRIDER_TEST_TOKEN"}, map[string]string{"authorization": "Bearer tk-1"}},
		{Options{Headers: map[string]string{"x-shop": "Zürich ☃", "X-Key": "env:POSTRIDER_TEST_TOKEN", "authorization": "env:POSTRIDER_TEST_TOKEN"}},
			map[string]string{"x-shop": "Zürich ☃", "x-key": "tk-1", "authorization": "tk-1"}},
	} {
		for _, c.o.Format = range []string{FormatRaw, FormatBinary, FormatStructured, FormatBatch, FormatNDJSON} {
			s := open(t, Config{URL: url, Options: c.o})
			d := sinktest.NewDelivery("a", "1")
			sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, d), sinks.KindAccepted)
			got := r.last(t).Headers
			for name, want := range c.want {
				if got[name] != want {
					t.Errorf("%s: %s is %q, want %q", c.o.Format, name, got[name], want)
				}
			}
			for name := range c.want {
				d.Headers = fmt.Appendf(nil, `{%q:"mine"}`, strings.ToUpper(name))
				out := sinktest.Deliver(t.Context(), s, d)
				sinktest.WantKinds(t, out, sinks.KindPermanent)
				if want := "is reserved: the subscription sets it for every request"; !strings.Contains(out[0].Error(), want) {
					t.Errorf("%s: the reason is %q, want %q", c.o.Format, out[0], want)
				}
			}
			if shown := fmt.Sprintf("%v %+v %s", s, s, out(s)); strings.Contains(shown, "tk-1") || strings.Contains(shown, "am9l") {
				t.Errorf("a secret shows in %s", shown)
			}
		}
	}
}

// out shows everything that fmt finds in the sink, without its String method.
func out(s *Sink) string {
	type bare Sink
	return fmt.Sprintf("%+v %#v", (*bare)(s), (*bare)(s))
}

func TestTokenChangesInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tk-1")
	r := new(receiver)
	s := open(t, Config{URL: serve(t, r.ServeHTTP).URL, Options: Options{Bearer: "file:" + path}})
	write("tk-2")
	deadline := time.Now().Add(sinktest.Patience)
	for {
		sinktest.WantKinds(t, sinktest.Deliver(t.Context(), s, sinktest.NewDelivery("a", "1")), sinks.KindAccepted)
		got := r.last(t).Headers["authorization"]
		if got == "Bearer tk-2" {
			return
		}
		if got != "Bearer tk-1" || time.Now().After(deadline) {
			t.Fatalf("authorization is %q", got)
		}
	}
}

func TestTextThatCannotBeAHeader(t *testing.T) {
	for _, c := range []struct {
		parse func(secret.Text) (string, error)
		text  string
		want  string
	}{
		{parseBasic, "hush", "must hold user:password"},
		{parseBasic, ":hush", "the user is empty"},
		{parseBasic, "a:hush\nb", "in one line"},
		{parseBearer, "hush hush", "must hold a token"},
		{parseBearer, "hush\nhush", "must hold a token"},
		{parseBearer, " ", "must hold a token"},
		{parseBearer, "hushé", "must hold a token"},
		{parseHeader, "hush\r\nX: y", "one line without control characters"},
	} {
		if _, err := c.parse(secret.NewText(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: error %v, want %q and no secret", c.text, err, c.want)
		}
	}
}
