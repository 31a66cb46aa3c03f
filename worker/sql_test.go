package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker"
)

// newQueue returns a database with a sql: subscription to t.> and a table of effects.
func newQueue(t *testing.T, settings string) (*pgtest.DB, *pgxpool.Pool) {
	t.Helper()
	db := pgtest.New(t)
	db.Exec(t, "CREATE TABLE effects (id bigint, attempt int)")
	db.Exec(t, `SELECT postrider.subscribe('q', '{t.>}', 'sql:', $1)`, settings)
	return db, db.Pool(t)
}

// enqueue enqueues messages in one transaction.
func enqueue(t *testing.T, pool *pgxpool.Pool, messages ...outbox.Message) (ids []int64) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		ids, err = outbox.EnqueueBatch(t.Context(), tx, messages)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func many(n int, topic string) []outbox.Message {
	list := make([]outbox.Message, n)
	for i := range list {
		list[i] = message(topic, i)
	}
	return list
}

// effect writes a row in the job's transaction.
func effect(ctx context.Context, job *worker.Job) error {
	_, err := job.Tx().Exec(ctx, "INSERT INTO effects VALUES ($1, $2)", job.ID, job.Attempt)
	return err
}

// awaitRows waits until a query yields so many rows, and returns them as texts.
func awaitRows(t *testing.T, pool *pgxpool.Pool, n int, sql string) []string {
	t.Helper()
	var list []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		rows, err := pool.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		if list, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
		if len(list) >= n {
			return list
		}
	}
	t.Fatalf("%d rows, want %d: %v", len(list), n, list)
	return nil
}

const effects = "SELECT id || ' ' || attempt FROM effects ORDER BY id"

func wantEffects(t *testing.T, pool *pgxpool.Pool, ids []int64, attempt int) {
	t.Helper()
	var want []string
	for _, id := range ids {
		want = append(want, fmt.Sprint(id, " ", attempt))
	}
	if got := awaitRows(t, pool, len(want), effects); !slices.Equal(got, want) {
		t.Errorf("the effects are %v, want %v", got, want)
	}
}

// What a job writes and that it is done are committed together, by several transactions at once.
func TestSQLDoesEachJobOnce(t *testing.T) {
	_, pool := newQueue(t, `{}`)
	ids := enqueue(t, pool, many(500, "t.a")...)
	stop := runs(t, worker.SQL(pool), worker.Config{Routes: one("q", effect)})
	wantEffects(t, pool, ids, 1)
	ids = append(ids, enqueue(t, pool, outbox.Message{Topic: "t.b", Body: []byte{1}, Key: "k", Headers: map[string]string{"h": "v"}})...)
	wantEffects(t, pool, ids, 1)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A job has all that its message has.
func TestSQLJob(t *testing.T) {
	_, pool := newQueue(t, `{}`)
	got := make(chan *worker.Job, 2)
	runs(t, worker.SQL(pool), worker.Config{Routes: one("q", func(_ context.Context, job *worker.Job) error { got <- job; return nil })})
	ids := enqueue(t, pool, outbox.Message{Topic: "t.b", Payload: "x", Key: "k", Headers: map[string]string{"h": "v"}}, outbox.Message{Topic: "t.c", Body: []byte{0, 1}, Key: "k"})
	first, second := receive(t, got), receive(t, got)
	if first.ID != ids[0] || first.Subscription != "q" || first.Topic != "t.b" || first.Key != "k" || string(first.Payload) != `"x"` || first.Body != nil ||
		first.Headers["h"] != "v" || first.Attempt != 1 || first.Priority != 2 || time.Since(first.CreatedAt) > time.Minute {
		t.Errorf("%+v", first)
	}
	if second.ID != ids[1] || second.Payload != nil || string(second.Body) != "\x00\x01" || second.Headers != nil {
		t.Errorf("%+v", second)
	}
	if err := second.Decode(new(int)); err == nil || !strings.Contains(err.Error(), "has no payload but a body of 2 bytes") {
		t.Errorf("got %v", err)
	}
}

// A connection that is lost in the middle undoes the transaction, and the jobs run again.
func TestSQLConnectionLost(t *testing.T) {
	db, pool := newQueue(t, `{"shards": 1}`)
	var broken atomic.Bool
	runs(t, worker.SQL(pool), worker.Config{Concurrency: 1, Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		if err := effect(ctx, job); err != nil {
			return err
		}
		if broken.CompareAndSwap(false, true) {
			db.Exec(t, "SELECT pg_terminate_backend($1)", int32(job.Tx().Conn().PgConn().PID()))
		}
		return nil
	})})
	ids := enqueue(t, pool, many(20, "t.a")...)
	rows := awaitRows(t, pool, len(ids), "SELECT id::text FROM effects")
	if len(rows) != len(ids) || !broken.Load() {
		t.Errorf("%d effects, want %d", len(rows), len(ids))
	}
}

// A job that is too slow loses its transaction at the limit, and its effects with it.
func TestSQLLimit(t *testing.T) {
	_, pool := newQueue(t, `{"shards": 1}`)
	causes := make(chan error, 1)
	var tries atomic.Int64
	runs(t, worker.SQL(pool), worker.Config{Concurrency: 1, Limit: 300 * time.Millisecond, Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		err := effect(ctx, job)
		if tries.Add(1) == 1 {
			<-ctx.Done()
			causes <- context.Cause(ctx)
		}
		return err
	})})
	ids := enqueue(t, pool, many(1, "t.a")...)
	if cause := receive(t, causes); cause != worker.ErrLost {
		t.Errorf("the cause is %v", cause)
	}
	if rows := awaitRows(t, pool, 1, "SELECT id::text FROM effects"); len(rows) != len(ids) || tries.Load() != 2 {
		t.Errorf("%d effects after %d tries", len(rows), tries.Load())
	}
}

// With LISTEN a job is noticed at its COMMIT, not at the next poll.
func TestSQLListens(t *testing.T) {
	db, pool := newQueue(t, `{}`)
	db.Exec(t, "SELECT postrider.enable_notify()")
	got := make(chan int64, 1)
	runs(t, worker.SQL(pool), worker.Config{Listen: true, Poll: time.Hour, Routes: one("q", func(_ context.Context, job *worker.Job) error { got <- job.ID; return nil })})
	awaitRows(t, pool, 1, "SELECT pid::text FROM pg_stat_activity WHERE query = 'LISTEN postrider' AND datname = current_database()")
	for range 3 {
		id := enqueue(t, pool, many(1, "t.a")...)[0]
		if n := receive(t, got); n != id {
			t.Errorf("%d came, want %d", n, id)
		}
	}
}

// Jobs of other shards do not wait for those that one lane does: whoever finds some lets the next lane look at once.
func TestSQLShardsAtOnce(t *testing.T) {
	db, pool := newQueue(t, `{"shards": 4}`)
	db.Exec(t, "SELECT postrider.enable_notify()")
	var running atomic.Int64
	all := make(chan struct{})
	done := make(chan int64, 4)
	runs(t, worker.SQL(pool), worker.Config{Listen: true, Poll: time.Hour, Concurrency: 4, Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		if running.Add(1) == 4 {
			close(all)
		}
		select {
		case <-all:
			done <- job.ID
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})})
	awaitRows(t, pool, 1, "SELECT pid::text FROM pg_stat_activity WHERE query = 'LISTEN postrider' AND datname = current_database()")
	enqueue(t, pool, many(4, "t.a")...) // without a key: a shard for each
	for range 4 {
		receive(t, done)
	}
}

// What PostgreSQL refuses for good ends Run, and its words are in the error.
func TestSQLRefused(t *testing.T) {
	db, pool := newQueue(t, `{}`)
	for subscription, want := range map[string]string{"missing": "missing", "q": ""} {
		w, err := worker.New(worker.SQL(pool), worker.Config{Routes: one(subscription, effect)})
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			role := db.Role(t, "stranger", "")
			other, err := pgxpool.New(t.Context(), db.RoleURL(role))
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if w, err = worker.New(worker.SQL(other), worker.Config{Routes: one(subscription, effect)}); err != nil {
				t.Fatal(err)
			}
			want = "permission denied"
		}
		if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", subscription, err, want)
		}
	}
	if w, err := worker.New(worker.SQL(nil), worker.Config{Routes: one("q", effect)}); err != nil || w.Run(t.Context()) == nil {
		t.Errorf("a pool that is nil runs: %v", err)
	}
}

// A handler that ignores its context does not keep the worker: its connection is closed, and others get its jobs.
func TestSQLStubbornHandler(t *testing.T) {
	_, pool := newQueue(t, `{"shards": 1}`)
	own, err := pgxpool.New(t.Context(), pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	began, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w, err := worker.New(worker.SQL(own), worker.Config{Drain: time.Millisecond, Concurrency: 1, Routes: one("q", func(context.Context, *worker.Job) error {
		close(began)
		<-goOn
		close(ended)
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	ids := enqueue(t, pool, many(1, "t.a")...)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- w.Run(ctx) }()
	receive(t, began)
	cancel()
	if err := receive(t, stopped); err == nil || !strings.Contains(err.Error(), "1 handlers went on") {
		t.Errorf("got %v", err)
	}
	runs(t, worker.SQL(pool), worker.Config{Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		_, err := job.Tx().Exec(ctx, "INSERT INTO effects VALUES ($1, 1)", job.ID)
		return err
	})})
	wantEffects(t, pool, ids, 1)
	close(goOn)
	receive(t, ended)
	own.Close()
}

// A worker that stops lets the job that runs end, gives back the rest of the batch, and commits.
func TestSQLDrain(t *testing.T) {
	_, pool := newQueue(t, `{"shards": 1}`)
	began, goOn := make(chan struct{}, 100), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := runsUntil(t, ctx, worker.SQL(pool), worker.Config{Concurrency: 1, Batch: 10, Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		began <- struct{}{}
		<-goOn
		return effect(ctx, job)
	})})
	ids := enqueue(t, pool, many(10, "t.a")...)
	receive(t, began)
	cancel()
	close(goOn)
	if err := ended(); err != nil {
		t.Error(err)
	}
	if done := awaitRows(t, pool, 1, "SELECT id::text FROM effects"); len(done) != 1 {
		t.Errorf("%d jobs were done, want the one that ran", len(done))
	}
	runs(t, worker.SQL(pool), worker.Config{Routes: one("q", effect)})
	wantEffects(t, pool, ids, 1)
}

// What handlers return decides in SQL as over HTTP, and what a job that is not done has written is undone.
func TestSQLOutcomes(t *testing.T) {
	_, pool := newQueue(t, `{"shards": 1, "max_attempts": 3, "backoff_initial": "10ms", "backoff_max": "10ms"}`)
	ids := enqueue(t, pool, message("t.again", 1), message("t.never", 1), message("t.later", 1), message("t.panic", 1), message("t.broken", 1), message("t.hopeless", 1),
		outbox.Message{Topic: "t.again", Key: "k", Payload: 1}, outbox.Message{Topic: "t.ok", Key: "k", Payload: 1})
	var order []int64
	runs(t, worker.SQL(pool), worker.Config{Concurrency: 1, Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		if err := effect(ctx, job); err != nil {
			return err
		}
		if job.Key == "k" {
			order = append(order, job.ID)
		}
		switch {
		case job.Topic == "t.again" && job.Attempt < 3:
			return errBad
		case job.Topic == "t.never":
			return worker.Dead(errBad)
		case job.Topic == "t.later" && time.Since(job.CreatedAt) < 200*time.Millisecond:
			return worker.Snooze(50 * time.Millisecond)
		case job.Topic == "t.panic" && job.Attempt == 1:
			panic("no paper left")
		case job.Topic == "t.broken" && job.Attempt == 1:
			_, err := job.Tx().Exec(ctx, "SELECT 1 / 0")
			if err == nil {
				t.Error("1 / 0 is something")
			}
			return nil // which it should not
		case job.Topic == "t.hopeless":
			return errors.New("always")
		}
		return nil
	})})
	got := awaitRows(t, pool, 6, effects)
	var want []string
	for i, attempt := range map[int]int{0: 3, 2: 1, 3: 2, 4: 2, 6: 3, 7: 1} {
		want = append(want, fmt.Sprint(ids[i], " ", attempt))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the effects are %v, want %v", got, want)
	}
	dead := awaitRows(t, pool, 2, "SELECT id || ' ' || reason FROM postrider.parked WHERE state = 'dead' ORDER BY id")
	for i, want := range []string{fmt.Sprint(ids[1], " "), fmt.Sprint(ids[5], " ")} {
		if !strings.HasPrefix(dead[i], want) || !strings.Contains(dead[i], []string{"bad weather", "always"}[i]) {
			t.Errorf("the dead letters are %v", dead)
		}
	}
	if want := []int64{ids[6], ids[6], ids[6], ids[7]}; !slices.Equal(order, want) {
		t.Errorf("key k came as %v, want %v", order, want)
	}
}

// With Repeatable, when a job fails, those of its transaction that went well are done again, in their order, and what has been written is there once; one that
// fails the second time is parked, and what is behind it in its key is not done.
func TestSQLDoesAgainWhatGoesWithAFailure(t *testing.T) {
	_, pool := newQueue(t, `{"shards": 1, "backoff_initial": "10ms", "backoff_max": "10ms"}`)
	message := func(topic, key string) outbox.Message { return outbox.Message{Topic: topic, Key: key, Payload: 1} }
	ids := enqueue(t, pool, message("t.fine", "a"), message("t.second", "b"), message("t.fine", "c"), message("t.bad", "b"), message("t.fine", "c"), message("t.bad", "d"))
	calls := map[int64]int{}
	var order []int64
	runs(t, worker.SQL(pool), worker.Config{Concurrency: 1, Repeatable: true, Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		if err := effect(ctx, job); err != nil {
			return err
		}
		calls[job.ID]++
		order = append(order, job.ID)
		if job.Topic == "t.bad" && job.Attempt == 1 && calls[job.ID] == 1 || job.Topic == "t.second" && calls[job.ID] == 2 {
			return errBad
		}
		return nil
	})})
	got := awaitRows(t, pool, len(ids), effects)
	var want []string
	for i, attempt := range []int{1, 2, 1, 1, 1, 2} {
		want = append(want, fmt.Sprint(ids[i], " ", attempt))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the effects are %v, want %v", got, want)
	}
	// The fourth fails: the first three are done again, of which the second fails now. So the fourth waits.
	first := []int64{ids[0], ids[1], ids[2], ids[3], ids[0], ids[1], ids[2], ids[4], ids[5]}
	if len(order) < len(first) || !slices.Equal(order[:len(first)], first) {
		t.Errorf("done in the order %v, want %v first", order, first)
	}
}

// What failed calls nobody again but its own handler, unless handlers are repeatable.
func TestSQLCallsEachHandlerOnce(t *testing.T) {
	_, pool := newQueue(t, `{"shards": 1, "backoff_initial": "10ms", "backoff_max": "10ms"}`)
	ids := enqueue(t, pool, message("t.fine", 1), message("t.bad", 1), message("t.fine", 1), message("t.bad", 1))
	calls := map[int64]int{}
	stop := runs(t, worker.SQL(pool), worker.Config{Concurrency: 1, Routes: one("q", func(ctx context.Context, job *worker.Job) error {
		if err := effect(ctx, job); err != nil {
			return err
		}
		calls[job.ID]++
		if job.Topic == "t.bad" && job.Attempt == 1 {
			return errBad
		}
		return nil
	})})
	awaitRows(t, pool, len(ids), effects)
	if err := stop(); err != nil {
		t.Error(err)
	}
	for i, id := range ids {
		if want := 1 + i%2; calls[id] != want {
			t.Errorf("the handler of the message %d was called %d times, want %d", i+1, calls[id], want)
		}
	}
}

// A result is kept with the rest of what its job has done, or not at all.
func TestSQLResults(t *testing.T) {
	_, pool := newQueue(t, `{}`)
	ids := enqueue(t, pool, message("t.good", 1), message("t.bad", 2))
	stop := runs(t, worker.SQL(pool), worker.Config{Routes: one("q", func(_ context.Context, job *worker.Job) error {
		if err := job.SetResult(map[string]string{"topic": job.Topic}); err != nil {
			return err
		}
		if job.Topic == "t.bad" {
			return worker.Dead(errBad)
		}
		return nil
	})})
	got := []string{}
	for _, id := range ids {
		s, err := outbox.Await(t.Context(), pool, id, "q")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s.Status+" "+string(s.Result))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if want := []string{`delivered {"topic":"t.good"}`, "dead "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
