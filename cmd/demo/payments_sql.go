package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// makePayments is act one: workers that are psql.
func (b *bank) makePayments(ctx context.Context) error {
	b.print("")
	b.say("act one: four workers, each a psql that runs worker.sql again and again; no relay")
	hands := map[string]*hand{}
	for _, name := range []string{"ada", "bob", "eve", "joe"} {
		h, err := b.hirePsql(name)
		if err != nil {
			return err
		}
		hands[name] = h
	}
	if err := b.watchUntil(ctx, b.paymentFigures, func(ctx context.Context) error {
		return b.mishapsInSQL(ctx, hands)
	}); err != nil {
		return err
	}
	for _, h := range hands {
		h.kill()
	}
	return b.judgePayments(ctx)
}

// watchUntil shows the figures while something happens, until both are done.
func (b *bank) watchUntil(ctx context.Context, look func(context.Context) figures, mishaps func(context.Context) error) error {
	listening, hush := context.WithCancel(ctx)
	defer hush()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.listen(listening) })
	group.Go(func() error {
		defer hush()
		began := time.Now()
		work, stop := errgroup.WithContext(ctx)
		work.Go(func() error { return mishaps(stop) })
		err := poll(ctx, actTimeout, func() (bool, error) {
			f := look(ctx)
			b.showFigures(f, time.Since(began))
			return f.done == f.all, ctx.Err()
		})
		if errors.Is(err, errTimeout) {
			err = fmt.Errorf("not all is done after %v: %+v", actTimeout, look(ctx))
		}
		return errors.Join(err, work.Wait())
	})
	return group.Wait()
}

// mishapsInSQL kills joe in the middle of a transaction, and tells how eve hangs in one and is rescued from.
func (b *bank) mishapsInSQL(ctx context.Context, hands map[string]*hand) (err error) {
	pause(ctx, 700*time.Millisecond)
	hands["joe"].kill()
	b.say("joe is killed (kill -9): PostgreSQL undoes what he was at, and others take it at once")
	if hands["joe"], err = b.hirePsql("joe"); err != nil {
		return err
	}
	if err := b.awaitEve(ctx, true); err != nil {
		return err
	}
	hangs := time.Now()
	b.say("eve hangs in the middle of a transaction")
	if err := b.awaitEve(ctx, false); err != nil {
		return err
	}
	b.say("PostgreSQL has ended eve's transaction, %s after she hung: others take her tasks", short(time.Since(hangs)))
	return nil
}

// awaitEve waits until eve hangs, or does not any more.
func (b *bank) awaitEve(ctx context.Context, hangs bool) error {
	return poll(ctx, actTimeout, func() (bool, error) {
		n := b.count(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'eve' AND wait_event = 'PgSleep' AND query LIKE '%payments.pay%'")
		return n == 1 == hangs, ctx.Err()
	})
}

// judgePayments compares what was done with what was asked for.
func (b *bank) judgePayments(ctx context.Context) error {
	paid := b.count(ctx, "SELECT count(*) FROM payments.payments WHERE status = 'paid'")
	declined := b.count(ctx, "SELECT count(*) FROM payments.payments WHERE status = 'declined'")
	for _, c := range []struct {
		what string
		got  int
		want int
	}{
		{"payments that were made or declined", paid + declined, paymentCount},
		{"payments that were charged exactly once", b.count(ctx, "SELECT count(*) FROM payments.payments WHERE charges = 1"), paid},
		{"dead letters", b.count(ctx, "SELECT count(*) FROM postrider.parked WHERE subscription = 'payments' AND state = 'dead'"), declined},
		{"receipts that were asked for", b.count(ctx, "SELECT count(*) FROM postrider.outbox WHERE topic = 'receipts.wanted'"), paid},
	} {
		if c.got != c.want && ctx.Err() == nil {
			return fmt.Errorf("a promise was broken: %s: %d, want %d", c.what, c.got, c.want)
		}
	}
	b.say("%d cards were charged, each exactly once; %d were declined and are dead letters; %d tries failed and were made again",
		paid, declined, b.heard.failed())
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
