package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// report shows what go test shows without -v, and keeps what was skipped. Several calls of go test may report at once.
type report struct {
	mu      sync.Mutex
	out     io.Writer
	outputs map[[2]string][]string // of a package's test that has not ended well yet; "" is the package itself
	skipped map[string][]string    // by reason
	failed  bool
}

func newReport(out io.Writer) *report {
	return &report{out: out, outputs: map[[2]string][]string{}, skipped: map[string][]string{}}
}

// result is a package's line at its end.
var result = regexp.MustCompile(`^(ok  |FAIL|\?   )\t`)

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		r.line(lines.Bytes())
	}
	return lines.Err()
}

func (r *report) line(text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e event
	if json.Unmarshal(text, &e) != nil {
		fmt.Fprintf(r.out, "%s\n", text)
		return
	}
	r.take(e)
}

// fail is for a call of go test that has failed.
func (r *report) fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *report) take(e event) {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if e.Test == "" && result.MatchString(e.Output) {
			r.failing(e)
			fmt.Fprint(r.out, e.Output)
			return
		}
		r.outputs[key] = append(r.outputs[key], e.Output)
	case "pass":
		delete(r.outputs, key)
	case "skip":
		if e.Test != "" {
			r.skip(short(e.Package)+" "+e.Test, reason(r.outputs[key]))
		}
		delete(r.outputs, key)
	case "fail":
		r.failed = true
		if e.Test != "" {
			r.show(key)
		}
	}
}

// failing shows, before the line that says that a package has failed, what is left of it: tests that it ended in the middle of.
func (r *report) failing(e event) {
	if !strings.HasPrefix(e.Output, "FAIL") {
		return
	}
	var keys [][2]string
	for key := range r.outputs {
		if key[0] == e.Package {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b [2]string) int { return strings.Compare(a[1], b[1]) })
	for _, key := range keys {
		r.show(key)
	}
}

func (r *report) show(key [2]string) {
	for _, text := range r.outputs[key] {
		if !strings.HasPrefix(text, "=== ") && text != "FAIL\n" && text != "PASS\n" {
			fmt.Fprint(r.out, text)
		}
	}
	delete(r.outputs, key)
}

// place is where a test says why it skips: file.go:12: reason.
var place = regexp.MustCompile(`^\s+[^\s:]+\.go:\d+: `)

func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		if at := place.FindString(line); at != "" {
			return strings.TrimSpace(strings.TrimPrefix(line, at))
		}
	}
	return "no reason is given"
}

func short(pkg string) string { return strings.TrimPrefix(pkg, "github.com/postrider/postrider/") }

func (r *report) skip(what, why string) { r.skipped[why] = append(r.skipped[why], what) }

// end says what was skipped and why, and whether all that ran is well.
func (r *report) end() error {
	if len(r.skipped) == 0 {
		fmt.Fprintln(r.out, "\nNothing was skipped.")
	} else {
		fmt.Fprintln(r.out, "\nSkipped:")
	}
	var reasons []string
	for why := range r.skipped {
		reasons = append(reasons, why)
	}
	slices.Sort(reasons)
	for _, why := range reasons {
		what := slices.Sorted(slices.Values(r.skipped[why])) // packages end in any order
		more := ""
		if len(what) > 3 {
			more = fmt.Sprintf(" and %d more", len(what)-3)
		}
		fmt.Fprintf(r.out, "  %s: %s%s\n", why, strings.Join(what[:min(len(what), 3)], ", "), more)
	}
	if r.failed {
		return errors.New("there were failures: see above")
	}
	return nil
}
