package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
)

// buildBefore builds the program as it was n schemas ago, from the history of the repository.
func buildBefore(t *testing.T, n int) string {
	t.Helper()
	git := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", "../.."}, args...)...).Output()
		if err != nil {
			t.Skipf("NOT TESTED, upgrades from older builds: git %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	files, err := filepath.Glob("../../migrations/[0-9]*.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	slices.Reverse(files)
	// Before the first of the newest migrations was added; versions may have been added in another order, and several at once.
	var newest, commits []string
	for _, f := range files {
		newest = append(newest, "migrations/"+filepath.Base(f))
		added := strings.Fields(git(append([]string{"log", "--diff-filter=A", "--format=%H", "--"}, newest...)...))
		if len(added) == 0 {
			continue // it is not committed
		}
		if commit := git("rev-parse", added[len(added)-1]+"~"); !slices.Contains(commits, commit) {
			commits = append(commits, commit)
		}
		if len(commits) == n {
			break
		}
	}
	if len(commits) < n {
		t.Skipf("NOT TESTED, upgrades from older builds: the history has %d schemas before this", len(commits))
	}
	commit := commits[n-1]
	dir := t.TempDir()
	archive := exec.CommandContext(t.Context(), "git", "-C", "../..", "archive", commit)
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	pipe, err := archive.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	unpack.Stdin = pipe
	if err := archive.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	if err := archive.Wait(); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "postrider-before")
	// Without the paths of the directory, which is another each time, the build of a package is found again by the next run.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./cmd/postrider")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build of %s: %v\n%s", commit, err, out)
	}
	return program
}

// Upgrades under load: the schema is migrated while an older build delivers, which goes on beside the newer schema; then a relay of this
// build takes over. Nothing is lost, repeated or out of order, from each of the last two schemas.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 2; n++ {
		t.Run(fmt.Sprintf("%d before", n), func(t *testing.T) {
			t.Parallel()
			old := buildBefore(t, n)
			db := pgtest.Empty(t)
			env := append(os.Environ(), "POSTRIDER_DATABASE_URL="+db.URL())
			ask := func(args ...string) string {
				cmd := exec.CommandContext(t.Context(), old, args...)
				cmd.Env = env
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("the older build: %s: %v\n%s", args, err, out)
				}
				return string(out)
			}
			ask("migrate")
			var got arrivedInOrder
			url := receiver(t, got.take)
			ask("subs", "apply", writeFile(t, "subscriptions:\n  - {name: all, topics: [a.>], sink: '"+url+"'}\n  - {name: sorted, topics: [a.>], sink: '"+url+"', priorities: true}\n"))
			load := startLoad(t, db)

			before := startOld(t, old, db.URL())
			eventually(t, "the older build delivers", func() bool { return got.count() > 500 })
			on(t, db.URL(), "migrate").ok("applied")
			at := got.count()
			eventually(t, "the older build goes on beside the newer schema", func() bool { return got.count() > at+1000 })
			after := start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_LEASE=2s")
			after.waitFor("relay started")
			stop(t, before)
			at = got.count()
			eventually(t, "this build has taken over", func() bool { return got.count() > at+1000 })
			sent := load()
			eventuallyIn(t, 2*patience, "all have arrived", func() bool { return got.count() >= 2*sent })
			after.signal(syscall.SIGTERM)
			if status := after.ends(); status != 0 {
				t.Errorf("this build ends with status %d", status)
			}
			got.judge(t, sent)
		})
	}
}

// startOld starts a relay of another build.
func startOld(t *testing.T, program, url string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, "run")
	cmd.Env = append(os.Environ(), "POSTRIDER_DATABASE_URL="+url, "POSTRIDER_HTTP_ADDR=off", "POSTRIDER_LEASE=2s")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended by then, as a rule
	return cmd
}

func stop(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the older build ends: %v", err)
	}
}

// startLoad enqueues numbered messages of a few keys until the function that it returns is called, which says how many there are.
func startLoad(t *testing.T, db *pgtest.DB) (end func() int) {
	t.Helper()
	conn := connectTo(t, db.URL())
	done := make(chan struct{})
	var wg sync.WaitGroup
	n := 0
	pace := time.NewTicker(2 * time.Millisecond)
	wg.Go(func() {
		defer pace.Stop()
		for {
			select {
			case <-done:
				return
			case <-pace.C:
			}
			if _, err := conn.Exec(t.Context(), "INSERT INTO postrider.outbox (topic, key, payload) VALUES ('a.b', 'k' || $1::int % 5, to_jsonb($1::int))", n); err != nil {
				t.Errorf("an INSERT fails: %v", err)
				return
			}
			n++
		}
	})
	end = sync.OnceValue(func() int { close(done); wg.Wait(); return n })
	t.Cleanup(func() { end() })
	return end
}

// arrivedInOrder is what came, by subscription.
type arrivedInOrder struct {
	mu   sync.Mutex
	list map[string][]string
}

func (a *arrivedInOrder) take(r *http.Request, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.list == nil {
		a.list = make(map[string][]string)
	}
	name := r.Header.Get("Postrider-Subscription")
	a.list[name] = append(a.list[name], r.Header.Get("Postrider-Key")+" "+body)
}

func (a *arrivedInOrder) count() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, list := range a.list {
		n += len(list)
	}
	return n
}

func (a *arrivedInOrder) judge(t *testing.T, sent int) {
	t.Helper()
	for _, name := range []string{"all", "sorted"} {
		last := make(map[string]int)
		for _, one := range a.list[name] {
			key, text, _ := strings.Cut(one, " ")
			var number int
			if _, err := fmt.Sscan(text, &number); err != nil {
				t.Fatalf("%s received %q: %v", name, one, err)
			}
			if before, seen := last[key]; seen && number <= before {
				t.Errorf("%s: message %d of key %s came after %d", name, number, key, before)
			}
			last[key] = number
		}
		if len(a.list[name]) != sent {
			t.Errorf("%s: %d messages arrived of %d", name, len(a.list[name]), sent)
		}
	}
}

// receiver accepts everything, and hands it on.
func receiver(t *testing.T, take func(*http.Request, string)) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // cut off
		}
		take(r, string(body))
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
