package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/worker"
)

const childName = "jobs"

func init() {
	child.Register(childName, func(args []string) {
		ctx, cancel := child.Context()
		defer cancel()
		child.Fatal(work(ctx, args))
	})
}

// doer does jobs and counts them.
type doer struct {
	workOrder
	done  atomic.Int64
	times *system.Times
}

func work(ctx context.Context, args []string) (err error) {
	d := &doer{times: system.NewTimes()}
	if len(args) != 1 {
		return fmt.Errorf("work: %d arguments instead of 1", len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &d.workOrder); err != nil {
		return fmt.Errorf("work: %w", err)
	}
	config, err := pgxpool.ParseConfig(d.Database)
	if err != nil {
		return err
	}
	config.MaxConns = int32(min(d.Concurrency, 100))
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	run, err := d.runner(pool)
	if err != nil {
		return err
	}
	counting, end := context.WithCancel(context.WithoutCancel(ctx))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { defer end(); child.Ready(); return run(ctx) })
	group.Go(func() error { return system.WriteCount(counting, d.Count, &d.done) })
	return errors.Join(group.Wait(), d.times.Write(d.Times))
}

func (d *doer) runner(pool *pgxpool.Pool) (func(context.Context) error, error) {
	source := worker.Pull(d.API)
	switch d.Kind {
	case "sql":
		source = worker.SQL(pool)
	case "plain":
		return func(ctx context.Context) error { return d.plain(ctx, pool) }, nil
	}
	w, err := worker.New(source, worker.Config{Name: "bench", Concurrency: d.Concurrency, Batch: d.Batch, Listen: d.Listen, Repeatable: true,
		Routes: []worker.Route{{Subscription: "bench", Handle: d.handle}}})
	if err != nil {
		return nil, err
	}
	return w.Run, nil
}

// insertEffect is what a job with an effect does.
const insertEffect = "INSERT INTO effects (id) VALUES ($1)"

func (d *doer) handle(ctx context.Context, job *worker.Job) error {
	d.times.Note(system.Number(job.Payload))
	if d.Effect {
		if _, err := job.Tx().Exec(ctx, insertEffect, job.ID); err != nil {
			return err
		}
	}
	if d.Milliseconds > 0 {
		time.Sleep(time.Duration(d.Milliseconds) * time.Millisecond)
	}
	d.done.Add(1)
	return nil
}

// plain works on a plain table with as many connections as there may be transactions, until ctx ends.
func (d *doer) plain(ctx context.Context, pool *pgxpool.Pool) error {
	group, ctx := errgroup.WithContext(ctx)
	for range d.Concurrency {
		group.Go(func() error {
			for ctx.Err() == nil {
				n, err := d.plainBatch(context.WithoutCancel(ctx), pool)
				if err != nil {
					return err
				}
				if n == 0 {
					time.Sleep(20 * time.Millisecond)
				}
				d.done.Add(int64(n))
			}
			return nil
		})
	}
	return group.Wait()
}

func (d *doer) plainBatch(ctx context.Context, pool *pgxpool.Pool) (n int, err error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback(ctx))
		}
	}()
	rows, err := tx.Query(ctx, takePlain, d.Batch)
	if err != nil {
		return 0, err
	}
	var ids []int64
	for rows.Next() {
		var id int64
		var payload []byte
		if err := rows.Scan(&id, &payload); err != nil {
			return 0, err
		}
		d.times.Note(system.Number(payload))
		ids = append(ids, id)
	}
	if rows.Err() != nil {
		return 0, rows.Err()
	}
	for _, id := range ids {
		if d.Effect {
			if _, err := tx.Exec(ctx, insertEffect, id); err != nil {
				return 0, err
			}
		}
	}
	return len(ids), tx.Commit(ctx)
}
