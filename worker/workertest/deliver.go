package workertest

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox/outboxtest"
	"github.com/postrider/postrider/worker"
)

// Delivered is a job that was handed to a handler, and what became of it.
type Delivered struct {
	Job     *worker.Job
	Outcome worker.Outcome
}

// maxDelivered ends handlers that enqueue for one another for ever.
const maxDelivered = 10_000

// Deliver hands what was enqueued in tx to the worker's handlers, by id, each message once for each subscription of the worker that has a
// handler for its topic, and then what these handlers have enqueued, and returns what became of all of it. Each job runs in a savepoint,
// which is rolled back unless the job is done, and is the job's Tx. Due times, retries and patterns of subscriptions do not count. The role
// must be one that may read postrider.outbox.
func Deliver(t testing.TB, w *worker.Worker, tx pgx.Tx) (list []Delivered) {
	t.Helper()
	last := int64(0)
	for {
		news := slices.DeleteFunc(outboxtest.All(t, tx), func(e outboxtest.Enqueued) bool { return e.ID <= last })
		if len(news) == 0 {
			return list
		}
		for _, e := range news {
			last = max(last, e.ID)
			for _, subscription := range w.Subscriptions() {
				if w.Handles(subscription, e.Topic) {
					list = append(list, deliver(t, w, tx, jobOf(subscription, e)))
				}
			}
		}
		if len(list) > maxDelivered {
			t.Fatalf("%d jobs were done and handlers still enqueue more: do they enqueue for one another?", len(list))
		}
	}
}

func deliver(t testing.TB, w *worker.Worker, tx pgx.Tx, job *worker.Job) Delivered {
	t.Helper()
	savepoint, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatalf("make a savepoint for message %d: %v", job.ID, err)
	}
	out := w.Do(t.Context(), savepoint, job)
	if out.Kind == "done" {
		err = savepoint.Commit(t.Context())
	} else {
		err = savepoint.Rollback(t.Context())
	}
	if err != nil {
		t.Fatalf("end the savepoint of message %d, which is %s: %v", job.ID, out.Kind, err)
	}
	return Delivered{job, out}
}

func jobOf(subscription string, e outboxtest.Enqueued) *worker.Job {
	return &worker.Job{Subscription: subscription, ID: e.ID, Topic: e.Topic, Key: e.Key, Payload: e.Payload, Body: e.Body, Headers: e.Headers,
		CreatedAt: time.Now(), Priority: 2, Attempt: 1, MaxAttempts: 10}
}
