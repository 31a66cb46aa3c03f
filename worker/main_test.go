package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker"
	"github.com/postrider/postrider/worker/workertest"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// An application that takes package worker gets pgx with it, and nothing else.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, i := range strings.Fields(string(out))[1:] {
		first, _, _ := strings.Cut(i, "/")
		if strings.Contains(first, ".") && i != "github.com/postrider/postrider/outbox/topic" && i != "github.com/postrider/postrider/internal/jsonscan" && !strings.HasPrefix(i, "github.com/jackc/pgx/v5") {
			t.Errorf("package worker imports %s", i)
		}
	}
}

const patience = 30 * time.Second

// receive returns what comes next.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("not reached")
	}
}

// runs lets a worker run until stop is called, or the test ends. stop returns Run's error.
func runs(t *testing.T, source worker.Source, c worker.Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := runsUntil(t, ctx, source, c)
	stop = func() error {
		cancel()
		return ended()
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the worker stops: %v", err)
		}
	})
	return stop
}

// runsUntil lets a worker run until ctx is over. ended waits for that, and returns Run's error.
func runsUntil(t *testing.T, ctx context.Context, source worker.Source, c worker.Config) (ended func() error) {
	t.Helper()
	c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	if c.Name == "" {
		c.Name = "tester"
	}
	w, err := worker.New(source, c)
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() { end <- w.Run(ctx) }()
	return sync.OnceValue(func() error { return receive(t, end) })
}

// one is a route for all of a subscription's jobs.
func one(subscription string, handle worker.Handler) []worker.Route {
	return []worker.Route{{Subscription: subscription, Handle: handle}}
}

func message(topic string, payload any) outbox.Message {
	return outbox.Message{Topic: topic, Payload: payload}
}

var errBad = errors.New("bad weather")

// fastBeat is for tests that wait for one.
const fastBeat = 20 * time.Millisecond

func newServer(t *testing.T) (*workertest.Server, worker.Source) {
	s := workertest.NewServer(t)
	return s, worker.Pull(s.URL())
}

// exampleTB lets the examples, which have no testing.T, have a server.
type exampleTB struct {
	testing.TB
	after *[]func()
}

func (exampleTB) Helper()                           {}
func (exampleTB) Name() string                      { return "example" }
func (exampleTB) Context() context.Context          { return context.Background() }
func (e exampleTB) Cleanup(f func())                { *e.after = append(*e.after, f) }
func (exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (exampleTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }

// newExampleServer returns a server and what closes it.
func newExampleServer() (s *workertest.Server, end func()) {
	var after []func()
	s = workertest.NewServer(exampleTB{after: &after})
	return s, func() {
		for _, f := range after {
			f()
		}
	}
}
