package river

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

const childName = "river"

// maxConns are the connections to the receiver, as many as Postrider has lanes.
const maxConns = 64

func init() {
	child.Register(childName, func(args []string) {
		ctx, cancel := child.Context()
		defer cancel()
		child.Fatal(work(ctx, args))
	})
}

// workOrder is what the bench tells the worker's process.
type workOrder struct {
	Database, Webhook, Count string
	Settings                 settings
}

// work runs a client with its workers until ctx ends.
func work(ctx context.Context, args []string) (err error) {
	if len(args) != 1 {
		return fmt.Errorf("work for River: %d arguments instead of 1", len(args))
	}
	var order workOrder
	if err := json.Unmarshal([]byte(args[0]), &order); err != nil {
		return fmt.Errorf("work for River: %w", err)
	}
	pool, err := pgxpool.New(ctx, order.Database)
	if err != nil {
		return fmt.Errorf("work for River: %w", err)
	}
	defer pool.Close()
	worker := newWorker(order, pool)
	config := order.Settings.config()
	config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: order.Settings.MaxWorkers}}
	config.Workers = river.NewWorkers()
	river.AddWorker(config.Workers, worker)
	client, err := river.NewClient(riverpgxv5.New(pool), config)
	if err != nil {
		return fmt.Errorf("work for River: %w", err)
	}
	// The end of ctx would cancel the jobs at work; Stop lets them finish.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("work for River: %w", err)
	}
	child.Ready()
	if order.Webhook == "" {
		err = system.WriteCount(ctx, order.Count, &worker.done)
	}
	<-ctx.Done()
	return errors.Join(err, client.Stop(context.WithoutCancel(ctx)))
}

// worker POSTs, or counts if there is no webhook.
type worker struct {
	river.WorkerDefaults[args]
	webhook string
	http    *http.Client
	done    atomic.Int64
	pool    *pgxpool.Pool // nil: jobs have no effect in the database
}

func newWorker(order workOrder, pool *pgxpool.Pool) *worker {
	conns := min(order.Settings.MaxWorkers, maxConns)
	w := &worker{webhook: order.Webhook, http: &http.Client{Transport: &http.Transport{
		MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, MaxIdleConns: conns,
	}}}
	if order.Settings.Effect {
		w.pool = pool
	}
	return w
}

// complete writes the job's row and completes it, in one transaction.
func (w *worker) complete(ctx context.Context, job *river.Job[args]) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO effects (id) VALUES ($1)", job.ID); err != nil {
			return err
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

func (w *worker) Work(ctx context.Context, job *river.Job[args]) (err error) {
	if w.pool != nil {
		if err := w.complete(ctx, job); err != nil {
			return err
		}
	}
	if w.webhook == "" {
		w.done.Add(1)
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.webhook, bytes.NewReader(job.Args.RawMessage))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := w.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return errors.New(response.Status)
	}
	return nil
}
