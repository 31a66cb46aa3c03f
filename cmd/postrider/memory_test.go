package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// container makes a cgroup with so much memory, and says how a shell gets into it. Without one it returns "".
func container(t *testing.T, bytes int64) (enter, dir string) {
	t.Helper()
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		base, file := "/sys/fs/cgroup", "memory.max"
		if parts[1] == "memory" {
			base, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if parts[1] != "" {
			continue
		}
		dir, err := os.MkdirTemp(filepath.Join(base, parts[2]), "postrider-test-") // tests beside each other have one each
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil { // any other directory, which limits nobody
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
			continue
		}
		t.Cleanup(func() {
			deadline := time.Now().Add(patience)
			for err := os.Remove(dir); err != nil; err = os.Remove(dir) {
				if time.Now().After(deadline) {
					t.Errorf("the cgroup stays: %v", err)
					return
				}
				time.Sleep(10 * time.Millisecond) // its last process is being buried
			}
		})
		if os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(bytes, 10)), 0o644) == nil {
			return "echo $$ > " + filepath.Join(dir, "cgroup.procs") + " && ", dir
		}
	}
	return "", ""
}

// Ten subscriptions of messages of 1 MB among a thousand, in a container of 256 MiB: the process lives, and nothing is lost.
func TestThousandSubscriptionsInASmallContainer(t *testing.T) {
	t.Parallel()
	const size, subscriptions, large, messages = 256 << 20, 1000, 10, 30
	enter, dir := container(t, size)
	var arrived atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		time.Sleep(20 * time.Millisecond) // a receiver that works
		if err == nil && n > 1_000_000 {
			arrived.Add(1)
		}
	}))
	defer server.Close()
	db := newDB(t)
	db.Exec(t, `SELECT postrider.subscribe('s' || i, CASE WHEN i <= $1 THEN '{large}' ELSE ARRAY['small.' || i] END, $2) FROM generate_series(1, $3::int) i`,
		large, server.URL, subscriptions)
	db.Exec(t, `INSERT INTO postrider.outbox (topic, payload) SELECT 'large', to_jsonb(array(SELECT md5((i * 30000 + j)::text) FROM generate_series(1, 28000) j))
		FROM generate_series(1, $1::int) i`, messages)
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL()}
	if enter == "" { // not root: the same by what the process has at most
		env = append(env, "GOMEMLIMIT=224MiB", "POSTRIDER_MEMORY_LIMIT=32MiB")
	}
	db.Exec(t, `UPDATE postrider.cursors SET base = '3:3:'`)
	p := startPlain(t, enter, env...)
	if enter != "" {
		p.waitFor(`within its container's memory" container=256MiB soft_limit=224MiB`)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for arrived.Load() < large*messages {
		select {
		case err := <-p.done:
			text, _ := p.out.read()
			t.Fatalf("the process ended with %v when %d had arrived:\n%s", err, arrived.Load(), text[max(0, len(text)-2000):])
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d arrived", arrived.Load(), large*messages)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var most int64
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "VmHWM:" {
			most, _ = strconv.ParseInt(fields[1], 10, 64)
		}
	}
	t.Logf("at most %d MiB, in cgroup %q", most>>10, dir)
	if most == 0 || most<<10 > size {
		t.Errorf("the process had %d KiB", most)
	}
}

func TestProcessKeepsWithinTheContainer(t *testing.T) {
	t.Parallel()
	enter, _ := container(t, 128<<20)
	if enter == "" {
		return // not root
	}
	for limit, want := range map[string]string{"": `soft_limit=112MiB`, "64MiB": `POSTRIDER_MEMORY_LIMIT=64MiB does not fit into this container's memory of 128MiB.*16MiB would be right`} {
		p := startPlain(t, enter, "POSTRIDER_DATABASE_URL="+newDB(t).URL(), "POSTRIDER_MEMORY_LIMIT="+limit)
		p.waitFor(want)
		p.waitFor("msg=relaying")
		p.signal(os.Interrupt)
		p.ends()
		if text, _ := p.out.read(); limit == "" && strings.Contains(text, "does not fit") {
			t.Errorf("the default does not fit:\n%s", text)
		}
	}
}
