package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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
	p.waitFor(`(?s)delivering.*redriven or discarded.*delivering`) // until then what is settled is to be said again

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
	if status, body := p.get("/metrics"); status != 200 || !strings.Contains(body, `postrider_jobs{state="out",subscription="mail"} 0`) || !strings.Contains(body, "postrider_job_workers 1") ||
		!strings.Contains(body, `postrider_job_takers{subscription="mail"} 0`) || !strings.Contains(body, `postrider_job_last_take_timestamp_seconds{subscription="mail"} 1`) {
		t.Errorf("/metrics: %d, %s", status, body)
	}
	res, err := jobsClient.Get(base + "/api/v1/jobs/workers")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); !strings.Contains(string(text), `"worker":"mailer-1"`) || !strings.Contains(string(text), `"subscription":"mail"`) {
		t.Errorf("workers: %s", text)
	}
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	if n := one[int64](t, db, "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'parked'"); n > 1 {
		t.Errorf("%d rows were parked, want that of the retry and of nothing else", n)
	}
}

// A stop of the relay repeats nothing that workers have, and loses nothing that they say meanwhile or later.
func TestDeployRepeatsNoJob(t *testing.T) {
	db := newDB(t)
	p, base := jobsSidecar(t, db)
	w := newJobWorker(t, base, "mailer-1")
	const n = 20
	for i := range n {
		enqueueJob(t, db, i, "")
	}
	var jobs []jobGiven
	for len(jobs) < n {
		jobs = append(jobs, w.call("take", map[string]any{"from": []any{map[string]any{"subscription": "mail", "max": n}}, "wait": "5s"}).Jobs...)
	}
	w.settle("ok", jobs[0].is("done"))
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %s: it waits for no worker", took)
	}
	if got := one[string](t, db, "SELECT count(*) || ' ' || min(worker) FROM postrider.parked WHERE state = 'leased'"); got != "19 mailer-1 mailer-1-started-once" {
		t.Errorf("handed over: %s", got)
	}
	_, w.base = jobsSidecar(t, db)
	var holding []map[string]any
	for _, j := range jobs[1:] {
		holding = append(holding, j.held())
	}
	if a := w.call("beat", map[string]any{"holding": holding}); a.status != 200 || len(a.Lost) > 0 {
		t.Errorf("the next relay says %+v", a)
	}
	for _, j := range jobs[1:] {
		w.settle("ok", j.is("done"))
	}
	w.settle("ok", jobs[1].is("done")) // again
	eventually(t, "all are delivered, once", func() bool {
		return one[bool](t, db, "SELECT bool_and(status = 'delivered') FROM postrider.deliveries") && one[int64](t, db, "SELECT count(*) FROM postrider.parked") == 0
	})
	w.take(0, "wait", "0s")
}

// What a silent worker had goes to others; when it wakes it is told what is not its own any more.
func TestSilentWorkersAreRefused(t *testing.T) {
	db := newDB(t)
	_, base := jobsSidecar(t, db, "POSTRIDER_WORKER_TTL=1s")
	frozen, other := newJobWorker(t, base, "frozen"), newJobWorker(t, base, "other")
	enqueueJob(t, db, 1, "")
	job := frozen.take(1)[0]
	again := other.take(1)[0] // after a second of silence
	if again.ID != job.ID || again.Attempt != 2 || again.Token == job.Token {
		t.Errorf("%+v came after %+v", again, job)
	}
	if a := frozen.call("beat", map[string]any{"holding": []any{job.held()}}); len(a.Lost) != 1 || a.Lost[0].Token != job.Token {
		t.Errorf("the frozen worker is told %+v", a)
	}
	frozen.settle("late", job.is("done"))
	other.settle("ok", again.is("done"))

	// What is not in the list of what a worker holds was lost on the way, or forgotten.
	enqueueJob(t, db, 2, "")
	job = other.take(1)[0]
	eventually(t, "it is given back", func() bool {
		other.call("beat", map[string]any{"holding": []any{}})
		return len(frozen.call("take", map[string]any{"from": []any{map[string]any{"subscription": "mail", "max": 1}}, "wait": "0s"}).Jobs) == 1
	})

	// Another incarnation has nothing of what the former one had, which is refused from then on.
	former := *frozen
	frozen.incarnation = "started-anew"
	frozen.take(1)
	if a := former.call("beat", map[string]any{}); a.status != 409 || a.Code != "worker_replaced" {
		t.Errorf("the former incarnation is answered %+v", a)
	}
}

// Large jobs that nobody comes for take no room from destinations that work, however many there are; a worker gets each by itself, as it
// was enqueued.
func TestLargeJobsWaitOutsideOfMemory(t *testing.T) {
	const bytes, n = 3_000_000, 12
	db := newDB(t)
	var received atomic.Int64
	good := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, _ := io.Copy(io.Discard, r.Body) // what is cut short is not what is counted on below
		received.Add(got)
	}))
	t.Cleanup(good.Close)
	_, base := jobsSidecar(t, db, "POSTRIDER_MEMORY_LIMIT=32MiB")
	db.Exec(t, "SELECT postrider.set_max_message(268435456)")
	for i := range 8 { // each of which has worked before
		db.Exec(t, fmt.Sprintf("SELECT postrider.subscribe('mail%d', '{mail.>}', 'pull:')", i))
	}
	enqueueJob(t, db, 0, "")
	w := newJobWorker(t, base, "mailer-1")
	w.settle("ok", w.take(1)[0].is("done"))
	for i := range 8 {
		from := []any{map[string]any{"subscription": fmt.Sprintf("mail%d", i), "max": 1}}
		w.settle("ok", w.take(1, "from", from)[0].is("done"))
	}
	db.Exec(t, fmt.Sprintf("SELECT postrider.subscribe('good', '{mail.>}', '%s')", good.URL))
	db.Exec(t, fmt.Sprintf("SELECT postrider.enqueue('mail.large', to_jsonb(repeat('x', %d))) FROM generate_series(1, %d)", bytes-2, n))
	eventually(t, "the destination that works has all", func() bool { return received.Load() == n*bytes })
	for i := range n {
		if i == n-1 {
			enqueueJob(t, db, 1, "")
		}
		job := w.take(1)[0]
		if len(job.Payload) != bytes {
			t.Fatalf("job %d came with %d bytes, want %d", job.ID, len(job.Payload), bytes)
		}
		w.settle("ok", job.is("done"))
	}
	w.settle("ok", w.take(1)[0].is("done"))
}

// What a worker says came of a job is kept, and so are attempts that did not succeed: messages show tells both.
func TestResultsOfJobs(t *testing.T) {
	db := newDB(t)
	_, base := jobsSidecar(t, db)
	w := newJobWorker(t, base, "mailer-1")
	enqueueJob(t, db, 1, "c-1")
	job := w.take(1)[0]
	for _, bad := range []struct {
		item map[string]any
		want string
	}{
		{job.is("done", "result", strings.Repeat("x", 65535)), "items[0].result: has 65537 bytes: must have at most 65536"},
		{job.is("retry", "result", 1), "items[0].result: goes with the outcome done, not with retry"},
	} {
		if a := w.call("settle", map[string]any{"items": []any{bad.item}}); a.status != 400 || !strings.Contains(a.Detail, bad.want) {
			t.Errorf("%d %q, want 400 %q", a.status, a.Detail, bad.want)
		}
	}
	w.settle("ok", job.is("retry", "reason", "the printer is out of paper"))
	job = w.take(1)[0]
	w.settle("ok", job.is("done", "result", map[string]any{"pages": 3, "to": "Zoë 😀"}))
	id := fmt.Sprint(job.ID)
	deadline := time.Now().Add(patience)
	for text := ""; !strings.Contains(text, "delivered"); {
		if time.Now().After(deadline) {
			t.Fatalf("not shown as delivered:\n%s", text)
		}
		text = on(t, db.URL(), "messages", "show", id, "mail").out
	}
	on(t, db.URL(), "messages", "show", id).ok("topic mail.welcome", "key c-1", "status delivered", `result {"pages":3,"to":"Zoë 😀"}`,
		"ATTEMPT STARTED", "failed", "the worker says: the printer is out of paper")
	on(t, db.URL(), "messages", "show", id, "--json").ok(`"kept_attempts"`, `"outcome": "failed"`, `"pages": 3`)
	on(t, db.URL(), "messages", "show", "999").fails("message 999: no subscription wants it, or it has left the log")
	on(t, db.URL(), "messages", "show", id, "nobody").fails(`subscription "nobody"`)
}

// A worker whose job is cancelled learns it by its next beat, what it says of it later counts for nothing, and the key goes on.
func TestCancelOfJobs(t *testing.T) {
	db := newDB(t)
	_, base := jobsSidecar(t, db)
	w := newJobWorker(t, base, "mailer-1")
	enqueueJob(t, db, 1, "c-1")
	job := w.take(1)[0]
	enqueueJob(t, db, 2, "c-1")
	cancel := func() string {
		return one[string](t, db, fmt.Sprintf("SELECT answer FROM postrider.cancel(%d, 'mail', 'withdrawn')", job.ID))
	}
	if got := cancel(); got != "requested" {
		t.Errorf("the answer is %s, want requested", got)
	}
	next := w.take(1)[0] // which the key lets go only when the first is cancelled
	if next.Key != "c-1" || next.ID == job.ID || next.Attempt != 1 {
		t.Errorf("%+v came after the cancelled %+v", next, job)
	}
	if got := cancel(); got != "cancelled" {
		t.Errorf("the answer is %s, want cancelled", got)
	}
	a := w.call("beat", map[string]any{"holding": []any{job.held(), next.held()}})
	if a.status != 200 || len(a.Lost) != 0 || len(a.Cancel) != 1 || a.Cancel[0].ID != job.ID || a.Cancel[0].Token != job.Token {
		t.Errorf("the beat is answered %+v", a)
	}
	w.settle("cancelled,ok", job.is("done", "result", 1), next.is("done"))
	w.settle("cancelled", job.is("done", "result", 1))
	eventually(t, "the next one is delivered", func() bool {
		return one[string](t, db, "SELECT string_agg(status, ',' ORDER BY id) FROM postrider.deliveries") == "cancelled,delivered"
	})
	if n := one[int](t, db, "SELECT count(*)::int FROM postrider.results"); n != 0 {
		t.Errorf("%d results are kept of what was cancelled", n)
	}
}

// A worker that is gone with jobs is told as a message to those who ask for it: one that is silent, and one that was started anew.
func TestLostWorkersAreTold(t *testing.T) {
	db := newDB(t)
	_, base := jobsSidecar(t, db, "POSTRIDER_WORKER_TTL=1s")
	db.Exec(t, `SELECT postrider.subscribe('alerts', '{$postrider.worker_lost.>}', 'sql:')`)
	frozen, crashed, other := newJobWorker(t, base, "frozen"), newJobWorker(t, base, "crashed"), newJobWorker(t, base, "other")
	one3 := []any{map[string]any{"subscription": "mail", "max": 3}}
	for n := range 3 {
		enqueueJob(t, db, n, "")
	}
	api := &apiClient{t: t, base: base}
	eventually(t, "all three wait for workers", func() bool { return strings.Contains(api.do("GET", "/jobs/workers", "", 200, nil), `"waiting":3`) })
	frozen.take(3, "from", one3) // at once, so that they are lost at once
	pool := db.Pool(t)
	told := func() string {
		return ask[string](t, pool, `SELECT coalesce(string_agg(concat_ws(' ', topic, payload ->> 'count', payload ->> 'jobs', payload -> 'workers'), '; ' ORDER BY id), '') FROM postrider.outbox WHERE event`)
	}
	eventually(t, "the silent worker is told", func() bool {
		return strings.Contains(told(), `$postrider.worker_lost.mail 1 3 [{"jobs": 3, "times": 1, "reason": "the worker that had it is silent", "worker": "frozen"}]`)
	})
	job := crashed.take(1, "from", []any{map[string]any{"subscription": "mail", "max": 1}})[0]
	crashed.incarnation = "started-anew"
	crashed.call("beat", map[string]any{})
	db.Exec(t, `UPDATE postrider.events_told SET told_at = now() - interval '1 hour'`)
	eventually(t, "the one that was started anew is told", func() bool {
		return strings.Contains(told(), `{"jobs": 1, "times": 1, "reason": "the worker that had it was started anew", "worker": "crashed"}`)
	})
	// One that gives back what it has is not lost.
	again := other.take(1, "from", []any{map[string]any{"subscription": "mail", "max": 1}})[0]
	other.settle("ok", again.is("release"))
	other.incarnation = "started-anew"
	other.call("beat", map[string]any{})
	if text := told(); strings.Contains(text, `"other"`) || job.ID == 0 {
		t.Errorf("told: %s", text)
	}
}

// What a worker says of its progress shows while it has the job, and no longer: not to the next worker's attempt, not when it is settled.
func TestProgressIsShown(t *testing.T) {
	db := newDB(t)
	p, base := jobsSidecar(t, db)
	w, other := newJobWorker(t, base, "mailer-1"), newJobWorker(t, base, "mailer-2")
	enqueueJob(t, db, 1, "")
	job := w.take(1)[0]
	say := func(w *jobWorker, job jobGiven, percent float64, note string) {
		t.Helper()
		told := job.held()
		told["percent"], told["note"] = percent, note
		if a := w.call("beat", map[string]any{"progress": []any{told}}); a.status != 200 {
			t.Fatalf("the beat is answered %+v", a)
		}
	}
	pool := db.Pool(t)
	shows := func(want string) {
		t.Helper()
		eventually(t, "progress shows as "+want, func() bool {
			return ask[string](t, pool, "SELECT concat_ws(' ', status, progress) FROM postrider.deliveries") == want
		})
	}
	say(w, job, 40, "page 4 of 10")
	shows(`leased {"percent":40,"note":"page 4 of 10"}`)
	on(t, db.URL(), "messages", "show", fmt.Sprint(job.ID)).ok("status leased", "progress 40 % page 4 of 10")
	on(t, db.URL(), "messages", "show", fmt.Sprint(job.ID), "--json").ok(`"percent": 40`, `"note": "page 4 of 10"`)
	if got := one[string](t, db, fmt.Sprintf("SELECT progress ->> 'note' FROM postrider.deliveries_of(%d)", job.ID)); got != "page 4 of 10" {
		t.Errorf("deliveries_of shows %q", got)
	}
	say(w, job, 55.5, "Zoë 😀")
	shows(`leased {"percent":55.5,"note":"Zoë 😀"}`)
	// The next owner knows nothing of it, and leaves it as it is until the worker says more.
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	_, base = jobsSidecar(t, db)
	w.base, other.base = base, base
	w.call("beat", map[string]any{"holding": []any{job.held()}})
	shows(`leased {"percent":55.5,"note":"Zoë 😀"}`)
	eventually(t, "the next owner knows the job", func() bool {
		return w.call("settle", map[string]any{"items": []any{job.is("release")}}).answers == "ok"
	})
	job = other.take(1)[0]
	say(other, job, 0, "begun")
	shows(`leased {"percent":0,"note":"begun"}`)
	other.settle("ok", job.is("retry", "reason", "no", "after", "1h"))
	shows("retrying")
	db.Exec(t, "UPDATE postrider.parked SET due = now()")
	db.Exec(t, "SELECT postrider.redrive('mail')")
	if n := one[int](t, db, "SELECT count(*)::int FROM postrider.parked WHERE progress IS NOT NULL"); n != 0 {
		t.Errorf("%d rows keep progress", n)
	}
}
