package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker"
	"github.com/postrider/postrider/worker/workertest"
)

// What a handler returns decides what becomes of the job.
func TestOutcomes(t *testing.T) {
	server, source := newServer(t)
	var snoozed atomic.Bool
	runs(t, source, worker.Config{Routes: []worker.Route{
		{Subscription: "mail", Topic: "ok", Handle: func(_ context.Context, job *worker.Job) error {
			var n int
			return errors.Join(job.Decode(&n), job.SetResult(n+1))
		}},
		{Subscription: "mail", Topic: "again", Handle: func(_ context.Context, job *worker.Job) error {
			if job.Attempt < 3 {
				return fmt.Errorf("attempt %d: %w", job.Attempt, errBad)
			}
			return nil
		}},
		{Subscription: "mail", Topic: "never", Handle: func(context.Context, *worker.Job) error { return worker.Dead(errBad) }},
		{Subscription: "mail", Topic: "later", Handle: func(context.Context, *worker.Job) error {
			if snoozed.CompareAndSwap(false, true) {
				return fmt.Errorf("wrapped: %w", worker.Snooze(time.Millisecond))
			}
			return nil
		}},
		{Subscription: "mail", Topic: "panic", Handle: func(_ context.Context, job *worker.Job) error {
			if job.Attempt == 1 {
				panic("no paper left")
			}
			return worker.Dead(errors.New("enough"))
		}},
		{Subscription: "mail", Topic: "exit", Handle: func(_ context.Context, job *worker.Job) error {
			if job.Attempt == 1 {
				runtime.Goexit()
			}
			return nil
		}},
	}})
	for _, c := range []struct {
		topic, state string
		attempts     int
		reason       string
	}{
		{"ok", "done", 1, ""},
		{"again", "done", 3, ""},
		{"never", "dead", 1, "bad weather"},
		{"later", "done", 1, ""},
		{"panic", "dead", 2, "enough"},
		{"exit", "done", 2, ""},
		{"unknown", "dead", 10, "worker tester has no handler for topic unknown of subscription mail"},
	} {
		got := server.Await(t, server.Add("mail", message(c.topic, 41)), c.state)
		if got.Attempts != c.attempts || got.Reason != c.reason {
			t.Errorf("%s: %+v, want %d attempts and reason %q", c.topic, got, c.attempts, c.reason)
		}
		if c.topic == "ok" && string(got.Result) != "42" {
			t.Errorf("its result is %s", got.Result)
		}
	}
	if !snoozed.Load() {
		t.Error("nothing was snoozed")
	}
}

// A panic's reason has its text and says where it was.
func TestPanicsAreFailures(t *testing.T) {
	w, err := worker.New(worker.Pull("http://x"), worker.Config{Routes: one("a", func(context.Context, *worker.Job) error { panic("no paper left") })})
	if err != nil {
		t.Fatal(err)
	}
	out := w.Do(t.Context(), nil, &worker.Job{Subscription: "a", Topic: "t"})
	if out.Kind != "retry" || !strings.HasPrefix(out.Reason, "panic: no paper left\n") || !strings.Contains(out.Reason, "pull_test.go:") ||
		strings.Contains(out.Reason, "runtime/debug") {
		t.Errorf("%+v", out)
	}
}

// A job that is lost or cancelled has its context cancelled, and the cause says which it was.
func TestLossAndCancel(t *testing.T) {
	server, source := newServer(t)
	began, causes, late := make(chan int64, 10), make(chan error, 10), make(chan int64, 10)
	runs(t, source, worker.Config{Beat: fastBeat, OnLate: func(job *worker.Job) { late <- job.ID },
		Routes: one("mail", func(ctx context.Context, job *worker.Job) error {
			if job.Attempt == 2 {
				return nil
			}
			began <- job.ID
			<-ctx.Done()
			causes <- context.Cause(ctx)
			if job.Topic == "stubborn" {
				return nil
			}
			return ctx.Err()
		})})

	id := server.Add("mail", message("a", 1))
	receive(t, began)
	server.Lose(id)
	if cause := receive(t, causes); cause != worker.ErrLost {
		t.Errorf("lost: the cause is %v", cause)
	}
	if got := server.Await(t, id, "done"); got.Attempts != 2 {
		t.Errorf("lost: %+v, want that the next attempt did it", got)
	}

	id = server.Add("mail", message("stubborn", 1))
	receive(t, began)
	server.Lose(id)
	receive(t, causes)
	if got := receive(t, late); got != id {
		t.Errorf("OnLate was called for %d, want %d", got, id)
	}

	id = server.Add("mail", message("a", 1))
	receive(t, began)
	server.Cancel(id)
	if cause := receive(t, causes); cause != worker.ErrCancelled {
		t.Errorf("cancelled: the cause is %v", cause)
	}
	server.Await(t, id, "cancelled")
}

// Progress travels with beats.
func TestProgress(t *testing.T) {
	server, source := newServer(t)
	goOn := make(chan struct{})
	runs(t, source, worker.Config{Beat: fastBeat, Routes: one("mail", func(_ context.Context, job *worker.Job) error {
		job.Progress(150, "half \x00way")
		<-goOn
		return nil
	})})
	id := server.Add("mail", message("a", 1))
	for got := server.Await(t, id, "out"); got.Note != "half �way" || got.Percent != 100; got = server.State(id) {
		if t.Context().Err() != nil {
			t.Fatalf("%+v", got)
		}
		runtime.Gosched()
	}
	close(goOn)
	server.Await(t, id, "done")
}

// A worker that stops lets handlers end, cancels those that do not, and gives back what has not begun: no attempt is lost.
func TestDrain(t *testing.T) {
	server, source := newServer(t)
	began := make(chan string, 10)
	goOn := make(chan struct{})
	stop := runs(t, source, worker.Config{Concurrency: 2, Drain: 300 * time.Millisecond,
		Routes: []worker.Route{{Subscription: "a", Handle: func(ctx context.Context, job *worker.Job) error {
			began <- job.Topic
			if job.Topic == "quick" {
				<-goOn
				return nil
			}
			<-ctx.Done()
			if cause := context.Cause(ctx); cause != worker.ErrShutdown {
				t.Errorf("the cause is %v", cause)
			}
			return errors.New("a handler's error after the cancel means nothing")
		}}, {Subscription: "b", Handle: func(context.Context, *worker.Job) error {
			t.Error("it began though there is no slot")
			return nil
		}}}})
	quick, slow := server.Add("a", message("quick", 1)), server.Add("a", message("slow", 1))
	receive(t, began)
	receive(t, began)
	var rest []int64
	for range 5 {
		rest = append(rest, server.Add("b", message("more", 1)))
	}
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	close(goOn)
	if err := receive(t, stopped); err != nil {
		t.Error(err)
	}
	if got := server.State(quick); got.State != "done" {
		t.Errorf("quick: %+v, want done", got)
	}
	if got := server.State(slow); got.State != "pending" || got.Attempts != 0 || got.Released != 1 {
		t.Errorf("slow: %+v, want that it is released", got)
	}
	for _, id := range rest {
		if got := server.State(id); got.State != "pending" || got.Attempts != 0 {
			t.Errorf("%+v, want that it waits", got)
		}
	}
}

// What nobody can take now is told again until somebody can, with the same token, and nothing else waits for that.
func TestSettleWhileSubscriptionMoves(t *testing.T) {
	server, source := newServer(t)
	server.Move("a", true)
	var times atomic.Int64
	runs(t, source, worker.Config{Concurrency: 2, Routes: []worker.Route{
		{Subscription: "a", Handle: func(context.Context, *worker.Job) error { times.Add(1); return nil }},
		{Subscription: "b", Handle: func(context.Context, *worker.Job) error { return nil }}}})
	held := []int64{server.Add("a", message("t", 1)), server.Add("a", message("t", 1))}
	for server.Moved() < 2 {
		if t.Context().Err() != nil {
			t.Fatal("nothing is told")
		}
		runtime.Gosched()
	}
	began, asked := time.Now(), server.Moved()
	for range 200 {
		server.Await(t, server.Add("b", message("t", 1)), "done")
	}
	if more, most := server.Moved()-asked, 2*(1+int(time.Since(began)/(50*time.Millisecond))); more > most {
		t.Errorf("it was told %d times while 200 other jobs were done, in %s", more, time.Since(began))
	}
	server.Move("a", false)
	for _, id := range held {
		server.Await(t, id, "done")
	}
	if n := times.Load(); n != 2 {
		t.Errorf("two jobs were done %d times", n)
	}
}

// What came for a second subscription while there was no slot waits in the worker, and is given back when it stops.
func TestMoreThanSlots(t *testing.T) {
	server, source := newServer(t)
	ids := []int64{}
	for _, s := range []string{"a", "b", "c"} {
		for range 2 {
			ids = append(ids, server.Add(s, message("t", 1)))
		}
	}
	began, goOn := make(chan string, 10), make(chan struct{})
	var routes []worker.Route
	for _, s := range []string{"a", "b", "c"} {
		routes = append(routes, worker.Route{Subscription: s, Handle: func(_ context.Context, job *worker.Job) error {
			began <- job.Subscription
			<-goOn
			return nil
		}})
	}
	stop := runs(t, source, worker.Config{Concurrency: 2, Routes: routes})
	if first := []string{receive(t, began), receive(t, began)}; !slices.Equal(first, []string{"a", "a"}) {
		t.Errorf("first came %v: the order of the routes is that of importance", first)
	}
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	for _, id := range ids[2:] {
		if got := server.Await(t, id, "pending"); got.Attempts != 0 || got.Released != 1 {
			t.Errorf("%+v, want that it is released", got)
		}
	}
	close(goOn)
	if err := receive(t, stopped); err != nil {
		t.Error(err)
	}
}

// A handler that ignores its context does not keep the worker: its job is released, and Run tells.
func TestStubbornHandler(t *testing.T) {
	server, source := newServer(t)
	began, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w, err := worker.New(source, worker.Config{Name: "w", Drain: time.Millisecond, Routes: one("a", func(context.Context, *worker.Job) error {
		close(began)
		<-goOn
		close(ended)
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	id := server.Add("a", message("t", 1))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- w.Run(ctx) }()
	receive(t, began)
	cancel()
	if err := receive(t, stopped); err == nil || !strings.Contains(err.Error(), "1 handlers went on") {
		t.Errorf("got %v", err)
	}
	if got := server.State(id); got.State != "pending" || got.Released != 1 {
		t.Errorf("%+v, want that it is released", got)
	}
	close(goOn)
	receive(t, ended)
}

// Answers that get lost cost no attempt and lose no job, and no job runs twice at once.
func TestLostAnswers(t *testing.T) {
	server, source := newServer(t)
	var running sync.Map
	var ran atomic.Int64
	runs(t, source, worker.Config{Concurrency: 8, Beat: fastBeat, Routes: one("a", func(_ context.Context, job *worker.Job) error {
		if _, twice := running.LoadOrStore(job.ID, true); twice {
			t.Errorf("job %d runs twice at once", job.ID)
		}
		defer running.Delete(job.ID)
		ran.Add(1)
		runtime.Gosched()
		return nil
	})})
	const jobs = 100
	var ids []int64
	for i := range jobs {
		if i%20 == 0 {
			server.LoseAnswers(2)
		}
		ids = append(ids, server.Add("a", message("t", 1)))
		if i%10 == 9 {
			server.Await(t, ids[i], "done")
		}
	}
	for _, id := range ids {
		if got := server.Await(t, id, "done"); got.Attempts != 1 {
			t.Errorf("%+v, want one attempt", got)
		}
	}
	if n := ran.Load(); n != jobs {
		t.Errorf("%d jobs ran %d times: an answer to take that got lost must release, not repeat", jobs, n)
	}
}

// Requests that get lost are made again: each job ends as its handler said.
func TestLostRequests(t *testing.T) {
	server, source := newServer(t)
	goOn := make(chan struct{})
	runs(t, source, worker.Config{Beat: time.Hour, Routes: one("a", func(context.Context, *worker.Job) error { <-goOn; return nil })})
	var ids []int64
	for range 5 {
		ids = append(ids, server.Add("a", message("t", 1)))
		server.Await(t, ids[len(ids)-1], "out")
	}
	server.LoseRequests(3)
	close(goOn)
	for _, id := range ids {
		if got := server.Await(t, id, "done"); got.Attempts != 1 || got.Released != 0 {
			t.Errorf("%+v, want that it ran once", got)
		}
	}
}

// A beat never releases what a take is just bringing.
func TestBeatsBesideTakes(t *testing.T) {
	server, source := newServer(t)
	held, goOn := make(chan struct{}, 1), make(chan struct{})
	runs(t, source, worker.Config{Concurrency: 20, Beat: time.Second, Routes: []worker.Route{ // a take that hangs for a second is given up
		{Subscription: "long", Handle: func(context.Context, *worker.Job) error { held <- struct{}{}; <-goOn; return nil }},
		{Subscription: "short", Handle: func(context.Context, *worker.Job) error { return nil }},
	}})
	long := server.Add("long", message("t", 1))
	receive(t, held)
	for before := server.Beats(); server.Beats() < before+3; {
		id := server.Add("short", message("t", 1))
		if got := server.Await(t, id, "done"); got.Released != 0 || got.Attempts != 1 {
			t.Fatalf("%+v, want that it ran once", got)
		}
	}
	close(goOn)
	if got := server.Await(t, long, "done"); got.Attempts != 1 || got.Released != 0 {
		t.Errorf("%+v", got)
	}
}

// A thousand jobs run at once, and stop.
func TestThousandAtOnce(t *testing.T) {
	server, source := newServer(t)
	const n = 1000
	var together sync.WaitGroup
	together.Add(n)
	stop := runs(t, source, worker.Config{Concurrency: n, Routes: one("a", func(context.Context, *worker.Job) error {
		together.Done()
		together.Wait() // for all others
		return nil
	})})
	var last int64
	for range n {
		last = server.Add("a", message("t", 1))
	}
	server.Await(t, last, "done")
	if err := stop(); err != nil {
		t.Error(err)
	}
	for id := int64(1); id <= n; id++ {
		if got := server.State(id); got.State != "done" || got.Attempts != 1 {
			t.Fatalf("%d: %+v", id, got)
		}
	}
}

// While a relay wants quiet a worker takes nothing, and then goes on.
func TestQuiet(t *testing.T) {
	server, source := newServer(t)
	runs(t, source, worker.Config{Beat: fastBeat, Routes: one("a", func(context.Context, *worker.Job) error { return nil })})
	server.Await(t, server.Add("a", message("t", 1)), "done")
	server.Quiet(true)
	id := server.Add("a", message("t", 1))
	for before := server.Beats(); server.Beats() < before+3; {
		runtime.Gosched()
	}
	if got := server.State(id); got.State != "pending" {
		t.Errorf("%+v, want that it waits", got)
	}
	server.Quiet(false)
	server.Await(t, id, "done")
}

// A relay that is away is waited for, and another one of the list asked.
func TestRelayAway(t *testing.T) {
	server := workertest.NewServer(t)
	runs(t, worker.Pull("http://127.0.0.1:1", server.URL()), worker.Config{Routes: one("a", func(context.Context, *worker.Job) error { return nil })})
	server.Await(t, server.Add("a", message("t", 1)), "done")
}

// What no time mends ends Run with an error that says what it is.
func TestBadSettings(t *testing.T) {
	nop := func(context.Context, *worker.Job) error { return nil }
	for _, c := range []struct {
		source worker.Source
		config worker.Config
		want   string
	}{
		{nil, worker.Config{Routes: one("a", nop)}, "the source is nil"},
		{worker.Pull("http://x"), worker.Config{}, "Routes is empty"},
		{worker.Pull("http://x"), worker.Config{Routes: one(" ", nop)}, `Routes[0].Subscription is " ": give the name`},
		{worker.Pull("http://x"), worker.Config{Routes: one("a", nil)}, "Routes[0].Handle is nil"},
		{worker.Pull("http://x"), worker.Config{Routes: []worker.Route{{Subscription: "a", Topic: "a.>.b", Handle: nop}}}, `Routes[0].Topic: pattern "a.>.b" has '>'`},
		{worker.Pull("http://x"), worker.Config{Routes: one("a", nop), Concurrency: -1}, "Concurrency is -1: give 1 to 100000, or 0 for 10"},
		{worker.Pull("http://x"), worker.Config{Routes: one("a", nop), Batch: 1001}, "Batch is 1001: give 1 to 1000, or 0 for 10"},
		{worker.Pull("http://x"), worker.Config{Routes: one("a", nop), Beat: -time.Second}, `Beat is "-1s": give 10ms or more, or 0 for 4s`},
	} {
		if _, err := worker.New(c.source, c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	for url, want := range map[string]string{"": "the URL of Pull is \"\"", "localhost:8090": "give one such as http://127.0.0.1:8090"} {
		w, err := worker.New(worker.Pull(url), worker.Config{Routes: one("a", nop)})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A request that a relay refuses for good ends Run, and its words are in the error.
func TestRefused(t *testing.T) {
	server := workertest.NewServer(t)
	server.Refuse("from[0].subscription is \"mial\": there is no such subscription; did you mean \"mail\"?")
	w, err := worker.New(worker.Pull(server.URL()), worker.Config{Routes: one("mial", func(context.Context, *worker.Job) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	err = w.Run(t.Context())
	refused, ok := errors.AsType[*worker.RefusedError](err)
	if !ok || refused.Status != 400 || !strings.Contains(err.Error(), `did you mean "mail"?`) {
		t.Errorf("got %v", err)
	}
}

// What a relay refuses of one job does not keep others from being settled.
func TestRefusedOutcome(t *testing.T) {
	server, source := newServer(t)
	goOn := make(chan struct{})
	runs(t, source, worker.Config{Beat: fastBeat, Routes: one("a", func(_ context.Context, job *worker.Job) error {
		<-goOn
		if job.Topic == "odd" && job.Attempt == 1 {
			return worker.Retry(errBad, workertest.RefusedAfter)
		}
		return nil
	})})
	ids := []int64{server.Add("a", message("t", 1)), server.Add("a", message("odd", 1)), server.Add("a", message("t", 1))}
	for _, id := range ids {
		server.Await(t, id, "out")
	}
	close(goOn)
	for i, attempts := range []int{1, 2, 1} {
		if got := server.Await(t, ids[i], "done"); got.Attempts != attempts {
			t.Errorf("%+v, want %d attempts", got, attempts)
		}
	}
}

// Jobs of a key come one after the other, in order.
func TestKeys(t *testing.T) {
	server, source := newServer(t)
	got := make(chan int64, 100)
	runs(t, source, worker.Config{Routes: one("a", func(_ context.Context, job *worker.Job) error { got <- job.ID; return nil })})
	for range 20 {
		server.Add("a", outbox.Message{Topic: "t", Key: "k", Payload: 1})
	}
	for id := int64(1); id <= 20; id++ {
		if n := receive(t, got); n != id {
			t.Fatalf("%d came, want %d", n, id)
		}
	}
}
