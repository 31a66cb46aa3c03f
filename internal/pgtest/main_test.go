package pgtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// helperEnv makes the test binary a process that starts a server and hangs.
const helperEnv = "PGTEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		helper()
	}
	Template(func(url string) error {
		return exec1(context.Background(), url, `CREATE TABLE of_template AS SELECT 7 AS n`)
	})
	Main(m)
}

// started is what a helper tells of itself.
type started struct {
	Pids []int
	Dirs []string
}

// helper tells what it has started, then waits to be killed or exits. The one that
// is killed has more: a PgBouncer, and a server that is paused.
func helper() {
	var said started
	err := func() error {
		s, err := Start(context.Background(), Options{})
		if err != nil {
			return err
		}
		said = started{[]int{s.Pid()}, []string{s.Dir()}}
		if os.Getenv(helperEnv) != "kill" {
			return nil
		}
		b, err := StartBouncer(context.Background(), s, BouncerOptions{})
		if err != nil {
			return err
		}
		err = s.Pause()
		said = started{append(s.paused, b.proc.pid), append(said.Dirs, b.dir)}
		return err
	}()
	if err = errors.Join(err, json.NewEncoder(os.Stdout).Encode(said)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(helperEnv) == "exit" {
		os.Exit(3)
	}
	select {}
}

// eventually polls until ok or fails the test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !ok() {
		if !pause(ctx) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// running reports whether pid is a process that is more than a zombie.
func running(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	table, err := processTable(context.Background())
	if err != nil {
		panic(err) // neither /proc nor ps: nothing can be said of any process
	}
	p, listed := table[pid]
	return listed && p.state != 'Z'
}

// exists reports whether there is something at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// queryOne returns the first column of the first row of sql, as text.
func queryOne(t *testing.T, url, sql string, args ...any) string {
	t.Helper()
	value, err := query1[string](t.Context(), url, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}
