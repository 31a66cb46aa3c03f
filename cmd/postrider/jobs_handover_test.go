package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/worker"
)

// What is said of a job whose subscription nobody delivers now settles nothing and is to be said again; other subscriptions go on.
func TestPauseKeepsWhatWorkersHave(t *testing.T) {
	db := newDB(t)
	base := "http://" + freeAddress(t)
	start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_API_ADDR="+base[7:], "POSTRIDER_CONFIG="+writeFile(t, `
subscriptions:
  - {name: mail, topics: ['mail.>'], sink: 'pull:'}
  - {name: sms, topics: ['sms.>'], sink: 'pull:'}
`)).waitFor("delivering.*subscription=sms")
	w := newJobWorker(t, base, "w")
	both := []any{map[string]any{"subscription": "mail", "max": 1}, map[string]any{"subscription": "sms", "max": 1}}
	db.Exec(t, "SELECT postrider.enqueue('mail.x', '{}')")
	mail := w.take(1, "from", both)[0]
	db.Exec(t, "SELECT postrider.enqueue('sms.x', '{}'), postrider.enqueue('sms.x', '{}')")
	sms := w.take(1, "from", both)[0]
	db.Exec(t, "SELECT postrider.pause('mail')")
	eventually(t, "it is handed over", func() bool {
		return one[bool](t, db, "SELECT count(*) = 1 FROM postrider.parked WHERE state = 'leased'") &&
			one[bool](t, db, "SELECT owner IS NULL FROM postrider.cursors WHERE subscription = 'mail'")
	})
	if a := w.call("settle", map[string]any{"items": []any{mail.is("done")}}); a.status != 503 || a.Code != "moving" {
		t.Errorf("by itself it is answered %+v", a)
	}
	if a := w.call("beat", map[string]any{"progress": []any{mail.held()}}); a.status != 503 || a.Code != "moving" {
		t.Errorf("progress is answered %+v", a)
	}
	a := w.call("settle", map[string]any{"items": []any{mail.is("done"), sms.is("done")}, "take": map[string]any{"from": both, "wait": "20s"}})
	if a.status != 200 || a.answers != "moving,ok" || len(a.Jobs) != 1 || a.Jobs[0].Subscription != "sms" {
		t.Fatalf("with others it is answered %+v", a)
	}
	if a := w.call("settle", map[string]any{"items": []any{mail.is("done")}, "take": map[string]any{"from": both, "wait": "0s"}}); a.status != 200 || a.answers != "moving" {
		t.Errorf("with a take it is answered %+v", a)
	}
	w.settle("ok", a.Jobs[0].is("done"))
	db.Exec(t, "SELECT postrider.resume('mail')")
	eventually(t, "it is settled", func() bool {
		a := w.call("settle", map[string]any{"items": []any{mail.is("done")}})
		if a.status == 200 && a.answers != "ok" {
			t.Fatalf("after the pause it is answered %+v", a)
		}
		return a.status == 200
	})
	eventually(t, "all is delivered", func() bool {
		return one[bool](t, db, "SELECT count(*) = 3 AND bool_and(status = 'delivered') FROM postrider.deliveries")
	})
}

// A deploy restarts relays in turn while jobs take longer than each stop, and each worker asks one relay alone: no job is done twice.
func TestRestartsOfAllRelaysRepeatNoJob(t *testing.T) {
	const jobs, stops = 400, 8
	db := newDB(t)
	config := writeFile(t, "subscriptions:\n  - {name: mail, topics: ['mail.>'], sink: 'pull:'}\n")
	var addresses [2]string
	var relays [2]*process
	begin := func(i int) {
		relays[i] = start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_CONFIG="+config, fmt.Sprintf("POSTRIDER_NAME=relay-%d", i),
			"POSTRIDER_API_ADDR="+addresses[i], "POSTRIDER_API_URL=http://"+addresses[i])
		relays[i].waitFor("relay started")
	}
	var mu sync.Mutex
	times := make(map[int64]int)
	var done atomic.Int64
	handle := func(ctx context.Context, job *worker.Job) error {
		if job.ID%2 == 0 {
			job.Progress(50, "half way")
		}
		select {
		case <-time.After(time.Duration(job.ID%40) * 50 * time.Millisecond):
		case <-ctx.Done(): // it would come again
		}
		mu.Lock()
		times[job.ID]++
		mu.Unlock()
		done.Add(1)
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	for i := range relays {
		addresses[i] = freeAddress(t)
		begin(i)
		w, err := worker.New(worker.Pull("http://"+addresses[i]), worker.Config{Name: fmt.Sprintf("worker-%d", i), Concurrency: 10, Beat: time.Second,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Routes: []worker.Route{{Subscription: "mail", Handle: handle}}})
		if err != nil {
			t.Fatal(err)
		}
		working.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	db.Exec(t, fmt.Sprintf("SELECT postrider.enqueue('mail.welcome', '{}') FROM generate_series(1, %d)", jobs))
	for n := range stops {
		eventually(t, "jobs are done", func() bool { return done.Load() >= int64(jobs*(n+1)/(stops+2)) })
		relays[n%2].signal(syscall.SIGTERM)
		if status := relays[n%2].ends(); status != 0 {
			t.Fatalf("a relay ends with %d", status)
		}
		begin(n % 2)
	}
	eventually(t, "all are delivered", func() bool {
		return one[int64](t, db, "SELECT count(*) FROM postrider.deliveries WHERE status = 'delivered'") == jobs
	})
	mu.Lock()
	defer mu.Unlock()
	for id, n := range times {
		if n != 1 {
			t.Errorf("job %d was done %d times", id, n)
		}
	}
}

// A relay whose stop takes long, since a receiver does, passes on to whoever has its subscriptions by then.
func TestSlowStopPassesWorkersOn(t *testing.T) {
	db := newDB(t)
	answer := make(chan struct{})
	var asked atomic.Bool
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true); <-answer }))
	t.Cleanup(receiver.Close)
	free := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(free)
	config := writeFile(t, `
subscriptions:
  - {name: hook, topics: ['mail.>'], sink: '`+receiver.URL+`'}
  - {name: mail, topics: ['mail.>'], sink: 'pull:'}
`)
	begin := func(name string) (*process, string) {
		address := freeAddress(t)
		return start(t, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_CONFIG="+config, "POSTRIDER_NAME="+name, "POSTRIDER_DRAIN_TIMEOUT=1h",
			"POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8", "POSTRIDER_API_ADDR="+address, "POSTRIDER_API_URL=http://"+address), "http://" + address
	}
	first, base := begin("first")
	first.waitFor("delivering.*subscription=mail")
	w := newJobWorker(t, base, "w")
	enqueueJob(t, db, 1, "")
	job := w.take(1)[0]
	eventually(t, "the receiver has the message", asked.Load)
	first.signal(syscall.SIGTERM)
	second, _ := begin("second")
	second.waitFor("delivering.*subscription=mail")
	eventually(t, "the relay that stops passes on", func() bool {
		a := w.call("settle", map[string]any{"items": []any{job.is("done")}})
		return a.status == 200 && a.answers == "ok"
	})
	free()
	if status := first.ends(); status != 0 {
		t.Errorf("status %d", status)
	}
	eventually(t, "all is delivered", func() bool {
		return one[bool](t, db, "SELECT count(*) = 2 AND bool_and(status = 'delivered') FROM postrider.deliveries")
	})
}
