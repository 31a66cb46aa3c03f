package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/examples/payments"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

const (
	paymentCount = 10_000
	actTimeout   = time.Minute // for what takes some seconds
)

// bank shows 10,000 payments, each a task for a worker in SQL, and their receipts, each a task for a worker over HTTP.
type bank struct {
	*screen
	cleanup cleanup
	fail    context.CancelCauseFunc
	dir     string
	server  *pgtest.Server
	admin   *pgxpool.Pool
	relay   sidecar
	heard   news

	mu   sync.Mutex
	lost int // receipts that workers were told are others' by now
}

// runPayments shows it all. The error says what went wrong; whatever was started is gone when it returns.
func runPayments(ctx context.Context, s *screen) (err error) {
	b := &bank{screen: s}
	ctx, b.fail = context.WithCancelCause(ctx)
	defer func() {
		b.show(nil)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // what else failed, failed because of it
		}
		b.fail(nil)
		err = errors.Join(err, b.cleanup.run(b.say))
	}()
	for _, step := range []func(context.Context) error{b.open, b.makePayments, b.openRelay, b.sendReceipts} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.print("", "Nothing was lost and nothing was done twice, with a worker that hung and one that was killed in each act.", "")
	return nil
}

// open starts PostgreSQL and runs payments.sql with psql.
func (b *bank) open(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "postrider-demo-"); err != nil {
		return err
	}
	b.cleanup.add("remove "+b.dir, func() error { return os.RemoveAll(b.dir) })
	b.say("starting a private PostgreSQL in a temporary directory …")
	if b.server, err = pgtest.Start(ctx, pgtest.Options{Log: b.screen}); err != nil {
		return err
	}
	b.cleanup.add("stop PostgreSQL", b.server.Stop)
	if b.admin, err = pgxpool.New(ctx, b.url()); err != nil {
		return err
	}
	b.cleanup.add("close connections", func() error { b.admin.Close(); return nil })
	if _, err := migrations.Up(ctx, b.url()); err != nil {
		return err
	}
	for name, text := range map[string]string{"payments.sql": payments.Schema, "worker.sql": payments.Worker} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	b.say(`\i examples/payments/payments.sql   -- %d payments, and a task for each, in one transaction`, paymentCount)
	return b.psqlFile(ctx, "payments.sql")
}

func (b *bank) url() string { return b.server.URL("postgres") }

// openRelay builds and starts the relay, which workers ask for receipts.
func (b *bank) openRelay(ctx context.Context) error {
	b.print("")
	b.say("act two: %d receipts, each a task that the payment's own transaction has asked for", b.count(ctx, "SELECT count(*) FROM payments.payments WHERE status = 'paid'"))
	b.say("building the relay: go build ./cmd/postrider …")
	if err := b.relay.build(ctx, b.dir); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	b.relay.api = fmt.Sprintf("127.0.0.1:%d", port)
	b.relay.env = []string{"POSTRIDER_DATABASE_URL=" + b.url(), "POSTRIDER_MIGRATE=false", "POSTRIDER_HTTP_ADDR=127.0.0.1:0", "POSTRIDER_NAME=demo",
		"POSTRIDER_API_ADDR=" + b.relay.api}
	b.cleanup.add("stop the relay", b.relay.stop)
	if err := b.relay.start(b.fail); err != nil {
		return err
	}
	err = poll(ctx, startTimeout, func() (bool, error) {
		return b.count(ctx, "SELECT count(*) FROM postrider.subscription_status WHERE name = 'receipts' AND owner IS NOT NULL") == 1, ctx.Err()
	})
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("the relay is not ready after %v; %s", startTimeout, b.relay.logTail())
	}
	return err
}

// count asks for one number. An error ends the demo.
func (b *bank) count(ctx context.Context, sql string) (n int) {
	if err := b.admin.QueryRow(ctx, sql).Scan(&n); err != nil {
		b.fail(fmt.Errorf("look at the database: %w", err))
	}
	return n
}
