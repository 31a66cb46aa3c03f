package pgtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/account"
)

// connect opens a connection that ends with the test.
func connect(t *testing.T, url string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(t.Context(), url)
	if err == nil {
		t.Cleanup(func() {
			ctx, cancel := cleanupContext()
			defer cancel()
			if err := conn.Close(ctx); err != nil {
				t.Log(err) // the server may be gone
			}
		})
	}
	return conn, err
}

func TestStartAndStop(t *testing.T) {
	s, err := Start(t.Context(), Options{WALLevel: "replica", Settings: map[string]string{
		"max_connections":  "33",
		"application_name": `it's a \`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t) // a running server is no leak
	for name, want := range map[string]string{
		"wal_level": "replica", "max_connections": "33", "fsync": "off", "application_name": `it's a \`,
		"synchronous_commit": "on", "listen_addresses": "127.0.0.1", "port": fmt.Sprint(s.Port()),
	} {
		// The client's own application_name would hide the server's.
		if got := queryOne(t, s.URL("postgres"), "SELECT setting FROM pg_file_settings WHERE applied AND name = $1", name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if out, err := exec.Command(filepath.Join(s.BinDir(), "psql"), "-Atc", "SELECT 1", s.URL("postgres")).CombinedOutput(); err != nil {
		t.Errorf("psql with the same URL: %v: %s", err, out)
	}
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if running(s.Pid()) || exists(s.Dir()) {
		t.Errorf("pid %d or directory %s outlived Stop", s.Pid(), s.Dir())
	}
	if err := s.Restart(t.Context(), "fast"); err == nil {
		t.Error("a stopped server was restarted")
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s := Servers(t, Options{})
	port, dir := s.Port(), s.Dir()
	if err := exec1(t.Context(), s.URL("postgres"), `CREATE TABLE kept AS SELECT 1 AS n; CREATE UNLOGGED TABLE crashed AS SELECT 1 AS n`); err != nil {
		t.Fatal(err)
	}
	count := func(table string) string {
		return queryOne(t, s.URL("postgres"), "SELECT count(*)::text FROM "+table)
	}
	kill := func() error {
		if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
			return err
		}
		return s.Restart(t.Context(), "fast")
	}
	for _, step := range []struct {
		name     string
		restart  func() error
		unlogged string
	}{
		{"fast", func() error { return s.Restart(t.Context(), "fast") }, "1"},
		{"immediate", func() error { return s.Restart(t.Context(), "immediate") }, "0"},
		{"kill -9", kill, "0"},
	} {
		before := s.Pid()
		if _, err := connect(t, s.URL("postgres")); err != nil { // somebody is connected
			t.Fatal(err)
		}
		if err := step.restart(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if running(before) || s.Pid() == before || s.Port() != port || s.Dir() != dir {
			t.Errorf("%s: pid %d → %d, port %d → %d, directory %s → %s", step.name, before, s.Pid(), port, s.Port(), dir, s.Dir())
		}
		if got := count("kept"); got != "1" {
			t.Errorf("%s: the table has %s rows", step.name, got)
		}
		if got := count("crashed"); got != step.unlogged {
			t.Errorf("%s: the unlogged table has %s rows, want %s", step.name, got, step.unlogged)
		}
	}
	if err := s.Restart(t.Context(), "gently"); err == nil || !strings.Contains(err.Error(), `"gently"`) {
		t.Errorf("restart with an unknown mode: %v", err)
	}
}

func TestRestartAfterKillOutlastsBusyBackend(t *testing.T) {
	t.Parallel()
	s := Servers(t, Options{})
	conn, err := connect(t, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		// A backend that computes does not notice that its postmaster is gone.
		_, err := conn.Exec(t.Context(), `DO $$ BEGIN WHILE clock_timestamp() < now() + interval '1 s' LOOP END LOOP; END $$`)
		done <- err
	}()
	eventually(t, "the backend is busy", func() bool {
		return queryOne(t, s.URL("postgres"), `SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'`) == "1"
	})
	if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context(), "immediate"); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Log("the loop ended before its backend looked for the postmaster")
	}
}

func TestRefusedSettingShowsLog(t *testing.T) {
	tmp := openTempDir(t)
	t.Setenv("TMPDIR", tmp)
	_, err := Start(t.Context(), Options{Settings: map[string]string{"shared_preload_libraries": "no_such_library"}})
	if err == nil || !strings.Contains(err.Error(), `could not access file "no_such_library"`) {
		t.Errorf("the error does not show the log: %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	first := Servers(t, Options{})
	_, err := Start(t.Context(), Options{Settings: map[string]string{"port": fmt.Sprint(first.Port())}})
	if err == nil || !strings.Contains(err.Error(), errTransient.Error()) {
		t.Errorf("a taken port: %v", err)
	}
}

func TestLongTempDir(t *testing.T) {
	dir := filepath.Join(openTempDir(t), strings.Repeat("long", 25))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	t.Setenv(account.DirVariable, "")
	s := Servers(t, Options{})
	if !strings.HasPrefix(s.Dir(), dir) {
		t.Errorf("the server is in %s", s.Dir())
	}
}

func TestClosedTempDir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED, directories that are closed to others: only root runs the server as somebody else")
	}
	dir := t.TempDir() // its parent is closed to others
	t.Setenv("TMPDIR", dir)
	t.Setenv(account.DirVariable, "")
	if s := Servers(t, Options{}); strings.HasPrefix(s.Dir(), dir) {
		t.Errorf("the server is in %s, where its user cannot go", s.Dir())
	}
}

// Who says where clusters are is heard, also beside memory that is free.
func TestDirThatIsSaid(t *testing.T) {
	dir := openTempDir(t)
	t.Setenv(account.DirVariable, dir)
	if err := InMemory(); err != nil {
		t.Fatal(err)
	}
	if s := Servers(t, Options{}); !strings.HasPrefix(s.Dir(), dir) {
		t.Errorf("the server is in %s, want %s", s.Dir(), dir)
	}
}

// openTempDir is t.TempDir for all users.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDeadParentLeavesNothing ends a process that holds a server: with it, or with
// everything that it started, goes what the server left.
func TestDeadParentLeavesNothing(t *testing.T) {
	for _, how := range []string{"kill", "exit"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			left := startHelper(t, how)
			for _, pid := range left.Pids {
				eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return !running(pid) })
			}
			for _, dir := range left.Dirs {
				eventually(t, dir+" is gone", func() bool { return !exists(dir) })
			}
		})
	}
}

// startHelper runs this test binary as a helper until its end, or kills it, and
// returns what it has started.
func startHelper(t *testing.T, how string) (left started) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+how)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readErr := json.NewDecoder(out).Decode(&left)
	if how == "kill" { // the whole group, as a test runner would
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the helper ended well")
	}
	if readErr != nil || len(left.Pids) == 0 || len(left.Dirs) == 0 {
		t.Fatalf("the helper said %+v: %v", left, readErr)
	}
	return left
}
