package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// asCommand makes the test binary be the postrider command: the same code, with the race detector if the test has it. That is for commands that last:
// see plain.
const asCommand = "RUN_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	code := pgtest.Run(m)
	if dir, err := plainDir(); err != nil || os.RemoveAll(dir) != nil {
		code = max(code, 1)
	}
	os.Exit(code)
}

// plainDir is where the program is that plain builds.
var plainDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "postrider-plain-") })

// plain builds the program without the race detector, once for all tests: with it a process takes several times the memory, and to begin three times
// the time.
var plain = sync.OnceValues(func() (string, error) {
	dir, err := plainDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "postrider")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// lasting are commands that go on until they are told to end, and do several things at a time.
var lasting = []string{"run", "top", "events"}

// newDB returns a database with the schema. It is a copy, so it is told that it is the original.
func newDB(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, "UPDATE postrider.source SET database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())")
	return db
}

// result is what one command did.
type result struct {
	t        *testing.T
	args     []string
	out, err string
	status   int
}

// command is a child process that runs postrider with env in place of our own POSTRIDER_ and OTEL_ variables.
func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	program := os.Args[0]
	if !slices.ContainsFunc(args, func(arg string) bool { return slices.Contains(lasting, arg) }) {
		program = plainProgram(t)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.WaitDelay = 10 * time.Second
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "OTEL_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// With the race detector, a process would sleep for a second before it ends.
	cmd.Env = append(append(cmd.Env, asCommand+"=1", "GORACE=atexit_sleep_ms=0"), env...)
	return cmd
}

func plainProgram(t *testing.T) string {
	t.Helper()
	path, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// runCommand runs postrider to its end. The first of env may be a database's URL.
func runCommand(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	cmd := command(t, env, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("run postrider %s: %v", args, err)
	}
	return result{t, args, out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// on runs postrider against a database.
func on(t *testing.T, url string, args ...string) result {
	t.Helper()
	return runCommand(t, []string{"POSTRIDER_DATABASE_URL=" + url}, "", args...)
}

// ok wants success, with these words in the output and nothing on standard error.
func (r result) ok(words ...string) result {
	r.t.Helper()
	if r.status != 0 || r.err != "" {
		r.t.Fatalf("postrider %s: status %d\n%s\n%s", strings.Join(r.args, " "), r.status, r.out, r.err)
	}
	return r.has(words...)
}

// has wants these words in the output. Blanks in a row count as one.
func (r result) has(words ...string) result {
	r.t.Helper()
	out := strings.Join(strings.Fields(r.out), " ")
	for _, w := range words {
		if !strings.Contains(out, w) {
			r.t.Errorf("postrider %s: no %q in\n%s%s", strings.Join(r.args, " "), w, r.out, r.err)
		}
	}
	return r
}

// lacks wants none of these words anywhere.
func (r result) lacks(words ...string) result {
	r.t.Helper()
	for _, w := range words {
		if strings.Contains(r.out+r.err, w) {
			r.t.Errorf("postrider %s: %q in\n%s%s", strings.Join(r.args, " "), w, r.out, r.err)
		}
	}
	return r
}

// fails wants status 1 and an error with these words, once, and no usage.
func (r result) fails(words ...string) result {
	r.t.Helper()
	if r.status != 1 {
		r.t.Errorf("postrider %s: status %d, want 1\n%s%s", strings.Join(r.args, " "), r.status, r.out, r.err)
	}
	if n := strings.Count(r.err, "postrider: "); n != 1 || strings.Contains(r.out+r.err, "Usage:") {
		r.t.Errorf("postrider %s: %d errors, or usage, in\n%s%s", strings.Join(r.args, " "), n, r.out, r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			r.t.Errorf("postrider %s: no %q in the error\n%s", strings.Join(r.args, " "), w, r.err)
		}
	}
	return r
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subs.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
