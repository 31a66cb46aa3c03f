package pin_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/bench/pin"
)

// waits is set in a child that has a few threads and waits for its end.
const waits = "PIN_TEST_WAITS"

func TestMain(m *testing.M) {
	if os.Getenv(waits) == "" {
		os.Exit(m.Run())
	}
	fmt.Println("it runs")
	<-time.After(time.Minute) // it is killed long before
}

func TestSplit(t *testing.T) {
	for n, want := range map[int]string{
		3:  "PostgreSQL 10; relay 11; destination 12; producers 12",
		4:  "PostgreSQL 10; relay 11; destination 12; producers 13",
		5:  "PostgreSQL 10, 14; relay 11; destination 12; producers 13",
		8:  "PostgreSQL 10, 14, 17; relay 11, 15; destination 12, 16; producers 13",
		10: "PostgreSQL 10, 14, 17; relay 11, 15, 18; destination 12, 16, 19; producers 13",
	} {
		p, err := pin.Split(numbers(n))
		if err != nil || p.String() != want {
			t.Errorf("%d processors: %v, %v; want %s", n, p, err, want)
		}
	}
	for n := range 3 {
		p, err := pin.Split(numbers(n))
		want := fmt.Sprintf("PostgreSQL, the relay and the destination need a processor each, and there are %d", n)
		if err == nil || err.Error() != want || p.String() != "" {
			t.Errorf("%d processors: %v, %v", n, p, err)
		}
	}
}

// numbers are n processors, from 10 on: their numbers need not begin with 0.
func numbers(n int) (list []int) {
	for i := range n {
		list = append(list, 10+i)
	}
	return list
}

// two returns two processors that this process may use.
func two(t *testing.T) (a, b int) {
	t.Helper()
	cpus, err := pin.Allowed()
	if err != nil || len(cpus) < 2 {
		t.Skipf("NOT TESTED, it takes two processors on Linux: %v, %v", cpus, err)
	}
	return cpus[0], cpus[1]
}

// TestStart: a child is pinned from its first instruction on, and the bench is not afterwards.
func TestStart(t *testing.T) {
	before, err := pin.Allowed()
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	a, b := two(t)
	p := pin.Processors{pin.Relay: {a}, pin.Destination: {b}}
	for part, want := range map[pin.Part]string{pin.Relay: fmt.Sprint(a), pin.Destination: fmt.Sprint(b), pin.Postgres: list(t, os.Getpid())} {
		var out []byte
		err := p.Start(part, func() (err error) {
			out, err = exec.Command("grep", "Cpus_allowed_list", "/proc/self/status").Output()
			return err
		})
		if err != nil || allowedIn(string(out)) != want {
			t.Errorf("part %d runs on %q, %v, want %s", part, out, err, want)
		}
	}
	if after, err := pin.Allowed(); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the bench itself is left with %v of %v, %v", after, before, err)
	}
	failure := fmt.Errorf("no luck")
	if err := p.Start(pin.Relay, func() error { return failure }); !errors.Is(err, failure) {
		t.Errorf("what went wrong at the start is told as %v", err)
	}
}

// TestMove pins a process with all its threads, and one that is gone is an error.
func TestMove(t *testing.T) {
	_, b := two(t)
	p := pin.Processors{pin.Destination: {b}}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), waits+"=1")
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1)) // it runs, in the threads of Go's runtime
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := child.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = child.Wait() // it was killed
		err := p.Move(pin.Destination, child.Process.Pid)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pin process %d to processors [%d]", child.Process.Pid, b)) {
			t.Errorf("a process that is gone: %v", err)
		}
	}()
	was := list(t, child.Process.Pid)
	if err := p.Move(pin.Relay, child.Process.Pid); err != nil || list(t, child.Process.Pid) != was {
		t.Errorf("a part without processors: it runs on %s, %v", list(t, child.Process.Pid), err)
	}
	if err := p.Move(pin.Destination, child.Process.Pid); err != nil || list(t, child.Process.Pid) != fmt.Sprint(b) {
		t.Errorf("it runs on %s, %v", list(t, child.Process.Pid), err)
	}
}

// list has the processors of all threads of a process, each set once.
func list(t *testing.T, pid int) string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("process %d has no threads, %v", pid, err)
	}
	var sets []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a thread may end
		}
		if err != nil {
			t.Fatal(err)
		}
		if set := allowedIn(string(text)); !slices.Contains(sets, set) {
			sets = append(sets, set)
		}
	}
	return strings.Join(sets, " and ")
}

// allowedIn finds the processors in a /proc/*/status.
func allowedIn(status string) string {
	_, rest, _ := strings.Cut(status, "Cpus_allowed_list:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
