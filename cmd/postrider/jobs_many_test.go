package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/worker"
)

// A thousand jobs that take long are out at once on one subscription: no row is written for them, and the relay stays small.
func TestThousandJobsAtOnce(t *testing.T) {
	const jobs = 1000
	db := newDB(t)
	p, base := forWorkers(startPlain(t, "", jobsEnv(db)...))
	var mu sync.Mutex
	var began []time.Time
	all := make(chan struct{})
	w, err := worker.New(worker.Pull(base), worker.Config{Name: "many", Concurrency: jobs, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Routes: []worker.Route{{Subscription: "mail", Handle: func(ctx context.Context, _ *worker.Job) error {
			mu.Lock()
			if began = append(began, time.Now()); len(began) == jobs {
				close(all)
			}
			mu.Unlock()
			select {
			case <-all: // each ends when all have begun
			case <-ctx.Done():
			}
			return ctx.Err()
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	running := make(chan error, 1)
	go func() { running <- w.Run(ctx) }()
	defer func() { stop(); <-running }()
	db.Exec(t, fmt.Sprintf("SELECT postrider.enqueue('mail.welcome', '{}') FROM generate_series(1, %d)", jobs))
	select {
	case <-all:
	case <-time.After(patience):
		t.Fatal("not all of them are out at once")
	}
	mu.Lock()
	t.Logf("all began within %s", began[jobs-1].Sub(began[0]))
	mu.Unlock()
	eventually(t, "all are delivered", func() bool {
		return one[int64](t, db, "SELECT count(*) FROM postrider.deliveries WHERE status = 'delivered'") == jobs
	})
	if most := p.mostResident(); most > 64<<20 {
		t.Errorf("the relay had %d MiB in memory, want 64 at most", most>>20)
	}
}

// Workers that wait and workers that beat cost the database nothing: no row is written, however many there are.
func TestWorkersWithoutJobsWriteNothing(t *testing.T) {
	const workers = 500
	db := newDB(t)
	_, base := jobsSidecar(t, db)
	// A relay shows in its own row that it lives, and saves an idle cursor once a minute, with workers or without.
	written := func() string {
		return one[string](t, db, `SELECT string_agg(relname || ' ' || n_tup_ins + n_tup_upd + n_tup_del, ', ' ORDER BY relname) FROM pg_stat_user_tables
			WHERE schemaname = 'postrider' AND relname NOT IN ('relays', 'cursors')`)
	}
	newJobWorker(t, base, "first").take(0, "wait", "0s")
	before := written()
	var calls sync.WaitGroup
	for i := range workers {
		w := newJobWorker(t, base, fmt.Sprintf("idle-%d", i))
		calls.Go(func() {
			w.call("take", map[string]any{"from": []any{map[string]any{"subscription": "mail", "max": 1}}, "wait": "3s"})
		})
		busy := newJobWorker(t, base, fmt.Sprintf("busy-%d", i))
		calls.Go(func() {
			for heard := 0; heard < 3; {
				switch a := busy.call("beat", map[string]any{"holding": []any{}}); a.status {
				case 200:
					heard++
				case 503: // a busy machine: to be repeated
				default:
					t.Errorf("a beat is answered %+v", a)
					return
				}
			}
		})
	}
	calls.Wait()
	if after := written(); after != before {
		t.Errorf("rows were written: there were %s, and are %s", before, after)
	}
}

// What a worker had that is killed or frozen goes to others when its time is over, not before; one that wakes is told, and told to undo.
func TestRescueAtTheDefault(t *testing.T) {
	db := newDB(t)
	_, base := jobsSidecar(t, db)
	gone, other := newJobWorker(t, base, "gone"), newJobWorker(t, base, "other")
	for n := range 2 {
		enqueueJob(t, db, n, "")
	}
	had := gone.take(1, "from", []any{map[string]any{"subscription": "mail", "max": 1}})
	began := time.Now()
	mine := other.take(1)
	other.settle("ok", mine[0].is("done"))
	rescued := other.take(1) // its call waits for 20 s at most
	took := time.Since(began)
	t.Logf("rescued after %s", took)
	if took < 14*time.Second {
		t.Errorf("the job was taken from its worker after %s of silence, want 15s", took)
	}
	gone.settle("late", had[0].is("done"))
	other.settle("ok", rescued[0].is("done"))
}
