package child_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider/bench/child"
)

func init() {
	child.Register("serve", func(args []string) {
		ctx, stop := child.Context()
		defer stop()
		fmt.Println("before")
		child.Ready()
		fmt.Println("after", args)
		<-ctx.Done()
		fmt.Println("asked to stop")
	})
	child.Register("fail", func([]string) { child.Fatal(errors.New("no luck")) })
	child.Register("hang", func([]string) { time.Sleep(time.Hour) })
	// A bench that starts a child, and tells its process id.
	child.Register("parent", func(args []string) {
		p, err := child.Start(context.Background(), child.Spec{Name: "serve", Cmd: child.Command(context.Background(), "serve"), Log: args[0], AwaitReady: true})
		child.Fatal(err)
		fmt.Println(p.PID())
		time.Sleep(time.Hour)
	})
}

func TestMain(m *testing.M) {
	child.Run()
	code := m.Run()
	if err := errors.Join(child.Dismiss(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func start(t *testing.T, name string, wait time.Duration, args ...string) (*child.Process, string, error) {
	log := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	p, err := child.Start(ctx, child.Spec{Name: name, Log: log, AwaitReady: true,
		Cmd: child.Command(context.WithoutCancel(ctx), name, args...)})
	return p, log, err
}

func TestStartAndStop(t *testing.T) {
	p, log, err := start(t, "serve", 10*time.Second, "a", "b c")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Stop(), p.Stop()); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(log)
	if err != nil || string(text) != "before\nafter [a b c]\nasked to stop\n" {
		t.Errorf("the log is %q, %v", text, err)
	}
	if syscall.Kill(p.PID(), 0) == nil {
		t.Error("the process is still there")
	}
}

func TestStartTellsWhatWentWrong(t *testing.T) {
	for name, want := range map[string]string{"fail": "no luck", "unknown": `there is no child "unknown"`} {
		if _, _, err := start(t, name, 10*time.Second); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "it ended") {
			t.Errorf("%s: %v, want that it ended with %s", name, err, want)
		}
	}
	if _, _, err := start(t, "hang", 300*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a child that is never ready: %v", err)
	}
}

func TestEndOfContextStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := child.Start(t.Context(), child.Spec{Name: "serve", Cmd: child.Command(ctx, "serve"), Log: filepath.Join(t.TempDir(), "log"), AwaitReady: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-p.Ended():
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

func TestPoll(t *testing.T) {
	asked := 0
	p, err := child.Start(t.Context(), child.Spec{Name: "sleep", Cmd: exec.Command("sleep", "60"), Log: filepath.Join(t.TempDir(), "log"),
		Poll: func(context.Context) error {
			if asked++; asked < 3 {
				return errors.New("not yet")
			}
			return nil
		}})
	if err != nil || asked != 3 {
		t.Fatalf("asked %d times, %v", asked, err)
	}
	// A program that leaves SIGTERM to its default ends by it in its own way.
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

// TestNothingOutlivesTheBench kills a bench that has a child.
func TestNothingOutlivesTheBench(t *testing.T) {
	bench := child.Command(context.Background(), "parent", filepath.Join(t.TempDir(), "log"))
	out, err := bench.StdoutPipe()
	if err == nil {
		err = bench.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, atoiErr := strconv.Atoi(strings.TrimSpace(line))
	if err := errors.Join(err, atoiErr, syscall.Kill(pid, 0)); err != nil {
		t.Fatalf("the child of the bench, %q: %v", line, err)
	}
	if err := bench.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = bench.Wait() // killed
	for deadline := time.Now().Add(time.Minute); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives the bench", pid)
		}
	}
}

// running tells a process from none and from one that nobody has waited for yet.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}
