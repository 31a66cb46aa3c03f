package main

import (
	"syscall"
	"testing"
	"time"
)

// Workers come for jobs over HTTP, and say what came of them; what goes well writes no row.
func TestWorkersComeForJobs(t *testing.T) {
	db := newDB(t)
	db.Exec(t, "ALTER DATABASE "+db.Name+" SET jit = off")
	p, base := jobsSidecar(t, db)
	w := newJobWorker(t, base, "mailer-1")

	enqueueJob(t, db, 1, "c-1")
	first := w.take(1)[0]
	if first.Subscription != "mail" || first.Topic != "mail.welcome" || first.Key != "c-1" || string(first.Payload) != `{"n": 1}` || first.Attempt != 1 ||
		first.MaxAttempts != 20 || first.Token == "" || first.Deadline == "" {
		t.Errorf("the job came as %+v", first)
	}
	// A key has one message out at most; others pass it.
	enqueueJob(t, db, 2, "c-1")
	enqueueJob(t, db, 3, "c-2")
	other := w.take(1)[0]
	if other.Key != "c-2" {
		t.Fatalf("%+v came while the job before it was out", other)
	}
	w.settle("ok,ok", first.is("done"), other.is("done"))
	w.settle("ok", first.is("done")) // its answer may have been lost
	second := w.take(1)[0]
	if second.Key != "c-1" || second.Attempt != 1 {
		t.Fatalf("%+v came", second)
	}

	// A retry is another attempt, a snooze and a release are not, a dead one is out of the way.
	w.settle("ok", second.is("retry", "reason", "the printer is out of paper", "after", "200ms"))
	again := w.take(1)[0]
	if again.ID != second.ID || again.Attempt != 2 || again.Token == second.Token {
		t.Fatalf("%+v came after the retry of %+v", again, second)
	}
	w.settle("ok", second.is("retry"))
	w.settle("unknown", again.is("done", "token", "guessed"))
	w.settle("ok", again.is("snooze", "after", "100ms"))
	again = w.take(1)[0]
	if again.Attempt != 2 {
		t.Errorf("attempt %d after a snooze, want 2", again.Attempt)
	}
	w.settle("ok", again.is("release"))
	again = w.take(1)[0]
	if again.Attempt != 2 {
		t.Errorf("attempt %d after a release, want 2", again.Attempt)
	}
	w.settle("ok", again.is("dead", "reason", "no such customer"))
	waitUntilParked(t, db, "dead")
	on(t, db.URL(), "parked", "list").ok("dead 2", "the worker says: no such customer")
	on(t, db.URL(), "parked", "discard", "mail", "--all").ok()

	// One request per batch: what is done, and the next.
	enqueueJob(t, db, 4, "")
	enqueueJob(t, db, 5, "")
	db.Exec(t, "SELECT postrider.enqueue_bytes('mail.raw', '\\x00ff')")
	jobs := w.take(1, "from", []any{map[string]any{"subscription": "mail", "max": 1}})
	bytes := 0
	for n := range 3 {
		if jobs[0].Payload == nil && string(jobs[0].Body) == "\x00\xff" {
			bytes++
		}
		if n == 2 {
			break
		}
		a := w.call("settle", map[string]any{"items": []any{jobs[0].is("done")}, "take": map[string]any{"from": []any{map[string]any{"subscription": "mail", "max": 1}}, "wait": "20s"}})
		if a.status != 200 || a.answers != "ok" || len(a.Jobs) != 1 {
			t.Fatalf("settle with a take, %d: %+v", n, a)
		}
		jobs = a.Jobs
	}
	if bytes != 1 {
		t.Errorf("%d of the jobs are bytes, want 1", bytes)
	}
	w.settle("ok", jobs[0].is("done"))
	eventually(t, "all are delivered or discarded", func() bool {
		return one[string](t, db, "SELECT string_agg(DISTINCT status, ',' ORDER BY status) FROM postrider.deliveries") == "delivered,discarded"
	})
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	t.Logf("stopped within %s", time.Since(began))
	if n := one[int64](t, db, "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'parked'"); n > 1 {
		t.Errorf("%d rows were parked, want that of the retry and of nothing else", n)
	}
}
