package docs

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// A page that lies fails its test.
func TestLiesAreSeen(t *testing.T) {
	server := pgtest.Servers(t, pgtest.Options{})
	for page, want := range map[string]string{
		"```sh\nfalse\ntrue\n```":                            "ended with exit status 1",
		"```sql\nSELECT 1/0;\n```":                           "division by zero",
		"<!-- prints: b -->\n```sh\necho a\n```":             `did not print "b"`,
		"<!-- in time: b -->\n```sh\necho a\n```":            `did not print "b" in time`,
		"<!-- background: b -->\n```sh\necho a; cat\n```":    `before "b" was printed`,
		"<!-- elsewhere: a -->\n```sh\ntrue\n```":            `nothing in the background prints "a"`,
		"```sh\nA=1\n```\n```sh\necho ${A:?}\n```":           "ended with exit status",
		"<!-- as: nobody -->\n```sql\nSELECT 1;\n```":        `role "nobody" does not exist`,
		"<!-- background: a -->\n```sh\necho a; read b\n```": "ended by itself",
	} {
		blocks, err := readPage("a.md", page)
		if err != nil {
			t.Fatal(err)
		}
		heard := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := newReader(heard, told{begins: withDatabase}, server, t.TempDir())
			r.patience = 300 * time.Millisecond
			for _, b := range blocks {
				r.run(b)
			}
			for _, term := range r.terminals {
				<-term.ended
			}
			r.endBackground()
		}()
		<-done
		if !strings.Contains(heard.said, want) {
			t.Errorf("%s\nis found to be: %q, want %q", page, heard.said, want)
		}
	}
}

// recorder hears of failures instead of the test.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Errorf(format string, args ...any) { r.said += fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.said += fmt.Sprintf(format, args...)
	runtime.Goexit()
}
