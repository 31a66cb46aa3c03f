package main

import (
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/outbox"
)

//go:embed shop.sql
var shopSchema string

const (
	tills      = 4
	tillEvery  = 40 * time.Millisecond // together 100 orders a second
	customers  = 200
	slowCommit = 2 * time.Second
	laterBy    = 3 * time.Second // how far ahead a message is scheduled
	cursedItem = "unicorns"
)

// shop is the application: customers place orders and pay for them, each in a transaction that also enqueues messages.
type shop struct {
	pool  *pgxpool.Pool
	book  *ledger
	curse atomic.Bool // the next order is for cursedItem

	placed, paid, declined atomic.Int64
}

// order is the payload of all messages.
type order struct {
	Order    int64  `json:"order"`
	Customer int    `json:"customer"`
	Item     string `json:"item"`
	Cents    int    `json:"cents"`
}

// message says that something happened to the order. All messages of a customer arrive in the order they were enqueued in.
func (o order) message(topic string) outbox.Message {
	return outbox.Message{Topic: topic, Key: fmt.Sprintf("customer-%d", o.Customer), Payload: o}
}

// trade runs the tills until open is cancelled. What has begun is finished, unless ctx is cancelled.
func (s *shop) trade(ctx, open context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range tills {
		group.Go(func() error {
			return every(ctx, open, tillEvery, func() error { return s.serve(ctx, 1+rand.IntN(customers)) })
		})
	}
	group.Go(func() error { return every(ctx, open, slowCommit, func() error { return s.hesitate(ctx) }) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("the shop: %w", err)
	}
	return nil
}

// every does work at each tick until open or ctx is cancelled.
func every(ctx, open context.Context, interval time.Duration, work func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-open.Done():
			return nil
		case <-ticker.C:
		}
		if err := work(); err != nil {
			return err
		}
	}
}

// serve is a customer's visit: an order in one transaction, its payment in the next.
func (s *shop) serve(ctx context.Context, customer int) error {
	o := order{Customer: customer, Item: pick("a lamp", "a chair", "two pens", "a map"), Cents: 500 + rand.IntN(9500)}
	if s.curse.CompareAndSwap(true, false) {
		o.Item = cursedItem
	}
	if err := transact(ctx, s.pool, s.book, func(u *unit) error { return s.place(ctx, u, &o) }); err != nil {
		return err
	}
	s.placed.Add(1)
	return transact(ctx, s.pool, s.book, func(u *unit) error { return s.pay(ctx, u, o) })
}

func (s *shop) place(ctx context.Context, u *unit, o *order) error {
	// The lock makes the customer's transactions follow one another, so that "the order of their messages" means something.
	if _, err := u.Exec(ctx, "SELECT FROM shop.customers WHERE id = $1 FOR UPDATE", o.Customer); err != nil {
		return err
	}
	err := u.QueryRow(ctx, "INSERT INTO shop.orders (customer, item, cents) VALUES ($1, $2, $3) RETURNING id",
		o.Customer, o.Item, o.Cents).Scan(&o.Order)
	if err != nil {
		return err
	}
	if err := u.enqueue(ctx, o.message("orders.placed")); err != nil {
		return err
	}
	if oneIn(25) {
		later := o.message("orders.review")
		later.DeliverAt = time.Now().Add(laterBy)
		if err := u.enqueue(ctx, later); err != nil {
			return err
		}
	}
	if oneIn(20) {
		return u.attempt(ctx, func(u *unit) error { return s.wrap(ctx, u, *o) })
	}
	return nil
}

// wrap finds out that there is no gift paper left. The order goes on without it.
func (s *shop) wrap(ctx context.Context, u *unit, o order) error {
	if err := u.enqueue(ctx, o.message("orders.wrapped")); err != nil {
		return err
	}
	return errRollBack
}

// pay takes the money. One card in eight is declined, after everything has been written and enqueued.
func (s *shop) pay(ctx context.Context, u *unit, o order) error {
	_, err := u.Exec(ctx, `
		WITH customer AS (UPDATE shop.customers SET spent = spent + $2 WHERE id = $1),
		     bill AS (UPDATE shop.orders SET paid = true WHERE id = $3)
		INSERT INTO shop.payments ("order", cents) VALUES ($3, $2)`, o.Customer, o.Cents, o.Order)
	if err != nil {
		return err
	}
	for _, topic := range []string{"payments.captured", "orders.paid"} {
		if err := u.enqueue(ctx, o.message(topic)); err != nil {
			return err
		}
	}
	if oneIn(8) {
		s.declined.Add(1)
		return errRollBack
	}
	s.paid.Add(1)
	return nil
}

// hesitate places an order and commits it long after younger ones: whoever reads the table by ascending id alone loses it.
func (s *shop) hesitate(ctx context.Context) error {
	o := order{Customer: 0, Item: "a wedding dress", Cents: 250_000}
	err := transact(ctx, s.pool, s.book, func(u *unit) error {
		if err := s.place(ctx, u, &o); err != nil {
			return err
		}
		_, err := u.Exec(ctx, "SELECT pg_sleep($1)", slowCommit.Seconds())
		return err
	})
	if err == nil {
		s.placed.Add(1)
	}
	return err
}

func oneIn(n int) bool { return rand.IntN(n) == 0 }

func pick(names ...string) string { return names[rand.IntN(len(names))] }
