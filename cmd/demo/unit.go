package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/outbox"
)

// errRollBack is returned by work that wants its transaction, or its savepoint, rolled back.
var errRollBack = errors.New("rolled back on purpose")

// unit is a transaction, or a savepoint in one, and what was enqueued in it.
type unit struct {
	pgx.Tx
	kept   map[int64]entry
	undone []int64
}

// transact runs work in a transaction, commits unless work says errRollBack, and enters what came of it into the ledger.
func transact(ctx context.Context, pool *pgxpool.Pool, book *ledger, work func(*unit) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	u := &unit{Tx: tx, kept: map[int64]entry{}}
	if err := u.end(ctx, work(u)); err != nil {
		return err
	}
	committed := time.Now()
	for id, e := range u.kept {
		if e.due.Before(committed) {
			e.due = committed
			u.kept[id] = e
		}
	}
	book.settle(u.kept, u.undone)
	return nil
}

// attempt runs work in a savepoint.
func (u *unit) attempt(ctx context.Context, work func(*unit) error) error {
	tx, err := u.Begin(ctx)
	if err != nil {
		return err
	}
	inner := &unit{Tx: tx, kept: map[int64]entry{}}
	if err := inner.end(ctx, work(inner)); err != nil {
		return err
	}
	maps.Copy(u.kept, inner.kept)
	u.undone = append(u.undone, inner.undone...)
	return nil
}

// end commits or rolls back, as the result of the work says.
func (u *unit) end(ctx context.Context, result error) error {
	if result == nil {
		return u.Commit(ctx)
	}
	err := u.Rollback(context.WithoutCancel(ctx))
	u.undone = slices.AppendSeq(u.undone, maps.Keys(u.kept))
	u.kept = nil
	if errors.Is(result, errRollBack) {
		return err
	}
	return result
}

// enqueue puts a message into the outbox, due at once or when it says: this is all that an application has to do.
func (u *unit) enqueue(ctx context.Context, msg outbox.Message) error {
	id, err := outbox.Enqueue(ctx, u.Tx, msg)
	if err != nil {
		return err
	}
	u.kept[id] = entry{topic: msg.Topic, key: msg.Key, due: msg.DeliverAt, scheduled: !msg.DeliverAt.IsZero()}
	return nil
}
