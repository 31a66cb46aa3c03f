package workers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker"
)

const workersToken = "workers-0123456789abcdef"

// startRelay builds and runs a relay, until the test ends, and returns where workers ask.
func startRelay(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "postrider")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "../../cmd/postrider").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "run")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "POSTRIDER_DATABASE_URL="+db.URL(), "POSTRIDER_HTTP_ADDR=127.0.0.1:0", "POSTRIDER_API_ADDR="+addr, "POSTRIDER_FOLLOW=timer", "POSTRIDER_NAME=test",
		"WORKERS_TOKEN="+workersToken, "POSTRIDER_API_TOKENS=all:worker=env:WORKERS_TOKEN")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its database goes, too
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the relay's log:\n%s", text)
		}
	})
	return "http://" + addr
}

// A worker in another language and one in Go share the jobs of a real relay; one that is killed in the middle loses its job to the other when it has been
// silent for as long as the subscription allows.
func TestWorkersOnRelay(t *testing.T) {
	needs(t, "python3", "python/pull_worker.py with a relay")
	db := pgtest.Empty(t) // a relay refuses a copy
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `SELECT postrider.subscribe('mail', '{mail.>}', 'pull:', '{"worker_ttl": "1s", "backoff_initial": "10ms", "backoff_max": "10ms"}')`)
	api := startRelay(t, db)
	p := start(t, []string{"python3", "python/pull_worker.py"}, "POSTRIDER_API="+api, "SUBSCRIPTION=mail", "NAME=python", "TOKEN="+workersToken, "BEAT=0.3", "CONCURRENCY=1")
	conn := db.Conn(t)
	add := func(o order) int64 {
		t.Helper()
		var id int64
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) (err error) {
			id, err = outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "mail.sent", Payload: o})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	p.says(t, fmt.Sprintf("did %d", add(order{})))
	p.says(t, fmt.Sprintf("did %d", add(order{Fail: 2})))
	id := add(order{Steps: 10_000})
	p.says(t, fmt.Sprintf("begins %d", id))

	did := make(chan *worker.Job, 10)
	w, err := worker.New(worker.Pull(api), worker.Config{Token: workersToken, Name: "go", Beat: 300 * time.Millisecond, Routes: []worker.Route{
		{Subscription: "mail", Handle: func(_ context.Context, job *worker.Job) error { did <- job; return nil }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	p.kill(t)
	select {
	case job := <-did:
		if job.ID != id || job.Attempt != 2 {
			t.Errorf("job %d came, attempt %d, want %d, attempt 2", job.ID, job.Attempt, id)
		}
	case <-time.After(patience):
		t.Fatal("the job of the worker that was killed went to nobody")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	await(t, conn, "SELECT count(*) FROM postrider.parked", 0)
}
