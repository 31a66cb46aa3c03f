package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/worker"
)

// workerVariable makes a worker of this program: its name, the relay's URL and the database's.
const workerVariable = "POSTRIDER_DEMO_WORKER"

var errPaper = errors.New("the printer is out of paper")

// work sends receipts until standard input ends, and then says how many it lost to others.
func work(ctx context.Context, settings string) error {
	words := strings.Fields(settings)
	if len(words) != 3 {
		return fmt.Errorf("%s=%q: must have a name and two URLs", workerVariable, settings)
	}
	pool, err := pgxpool.New(ctx, words[2])
	if err != nil {
		return err
	}
	defer pool.Close()
	var lost atomic.Int64
	w, err := worker.New(worker.Pull(words[1]), worker.Config{
		Name: words[0], Concurrency: 25, Beat: 500 * time.Millisecond,
		Routes: []worker.Route{{Subscription: "receipts", Handle: func(ctx context.Context, job *worker.Job) error {
			err := sendReceipt(ctx, pool, job, words[0])
			if context.Cause(ctx) == worker.ErrLost {
				lost.Add(1)
			}
			return err
		}}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started us closes it, or is gone
		stop()
	}()
	err = w.Run(ctx)
	fmt.Println("lost", lost.Load())
	return err
}

// sendReceipt takes its time, and fails now and then. A job may come twice, so its effect is one that can be seen to be there.
func sendReceipt(ctx context.Context, pool *pgxpool.Pool, job *worker.Job, name string) error {
	var receipt struct{ Payment int64 }
	if err := job.Decode(&receipt); err != nil {
		return worker.Dead(err)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(20+rand.IntN(60)) * time.Millisecond):
	}
	if rand.IntN(33) == 0 {
		return errPaper
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "INSERT INTO payments.receipts (payment, sent_by) VALUES ($1, $2) ON CONFLICT DO NOTHING", receipt.Payment, name)
		if err == nil && tag.RowsAffected() == 1 {
			_, err = tx.Exec(ctx, "SELECT pg_notify('payments', $1)", fmt.Sprintf("the receipt of payment %d was sent by %s", receipt.Payment, name))
		}
		return err
	})
}
