package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

const startTimeout = 15 * time.Second

// demo holds all that takes part.
type demo struct {
	options
	*screen
	cleanup cleanup
	fail    context.CancelCauseFunc
	dir     string
	book    *ledger
	db      database
	nats    broker
	hooks   receiver
	relay   sidecar
	shop    *shop
	subs    []subscription
	trouble map[string]string // what was said of each subscription
	buried  map[int64]letter
	playing atomic.Bool // the show is over, the user plays
}

// run shows it all. The error says what went wrong; whatever was started is gone when run returns.
func run(ctx context.Context, o options, s *screen) (err error) {
	d := &demo{options: o, screen: s, book: newLedger(), trouble: map[string]string{}, buried: map[int64]letter{}}
	ctx, d.fail = context.WithCancelCause(ctx)
	defer func() {
		d.show(nil)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // what else failed, failed because of it
		}
		d.fail(nil)
		err = errors.Join(err, d.cleanup.run(d.say))
	}()
	if err := d.setUp(ctx); err != nil {
		return err
	}
	return d.perform(ctx)
}

// setUp starts everything.
func (d *demo) setUp(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "postrider-demo-"); err != nil {
		return err
	}
	d.cleanup.add("remove "+d.dir, func() error { return os.RemoveAll(d.dir) })
	for _, step := range []struct {
		doing string
		run   func(context.Context) error
	}{
		{"starting a private PostgreSQL in a temporary directory …", d.startDatabase},
		{"starting an embedded NATS server and a web server that fails now and then …", d.startReceivers},
		{"building the relay: go build ./cmd/postrider …", func(ctx context.Context) error { return d.relay.build(ctx, d.dir) }},
		{"starting the relay …", d.startRelay},
	} {
		d.say("%s", step.doing)
		if err := step.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) startDatabase(ctx context.Context) error {
	d.cleanup.add("stop PostgreSQL", d.db.stop)
	if err := d.db.start(ctx, d.screen, d.follow == "listen"); err != nil {
		return err
	}
	d.shop = &shop{pool: d.db.app, book: d.book}
	version, err := query[struct{ V string }](ctx, &d.db, "SELECT split_part(current_setting('server_version'), ' ', 1)")
	if err == nil {
		d.say("  PostgreSQL %s, with the schema postrider, a shop's tables, and the roles app and relay", version[0].V)
	}
	return err
}

func (d *demo) startReceivers(ctx context.Context) error {
	d.nats = broker{book: d.book, arrived: d.arrived}
	d.cleanup.add("stop NATS", d.nats.stop)
	if err := d.nats.start(ctx, filepath.Join(d.dir, "nats")); err != nil {
		return err
	}
	d.hooks.book, d.hooks.arrived = d.book, d.arrived
	d.hooks.flaky = func() bool { return rand.IntN(20) == 0 }
	if err := d.hooks.start(); err != nil {
		return err
	}
	d.cleanup.add("stop the web server", d.hooks.stop)
	return nil
}

// startRelay creates the subscriptions, runs the relay and waits until it serves them.
func (d *demo) startRelay(ctx context.Context) error {
	const retries = `{"backoff_initial": "200ms", "backoff_max": "2s"}`
	for _, s := range []struct {
		subscription
		sink string
	}{
		{subscription{"analytics", ">", "{}"}, d.nats.sink()},
		{subscription{"fulfilment", "orders.>", retries}, d.hooks.url + "/fulfilment"},
		{subscription{"billing", "payments.*", retries}, d.hooks.url + "/billing"},
	} {
		d.subs = append(d.subs, s.subscription)
		if err := d.db.subscribe(ctx, s.subscription, s.sink); err != nil {
			return err
		}
		d.say("  subscription %-10s  %-10s  →  %s", s.name, s.topics, s.sink)
	}
	d.relay.env = []string{"POSTRIDER_DATABASE_URL=" + d.db.url("relay"), "POSTRIDER_FOLLOW=" + d.follow,
		"POSTRIDER_MIGRATE=false", "POSTRIDER_HTTP_ADDR=127.0.0.1:0", "POSTRIDER_NAME=demo"}
	d.cleanup.add("stop the relay", d.relay.stop)
	if err := d.relay.start(d.relayDied); err != nil {
		return err
	}
	return d.awaitRelay(ctx)
}

func (d *demo) relayDied(err error) {
	if d.playing.Load() {
		d.say("%v", err)
		return
	}
	d.fail(err)
}

// awaitRelay waits until the relay has taken all subscriptions over and, where it is going to stream, has its slot.
func (d *demo) awaitRelay(ctx context.Context) error {
	streams := d.follow == "auto" || d.follow == "stream"
	slot := ""
	err := poll(ctx, startTimeout, func() (bool, error) {
		s, err := d.status(ctx, time.Time{})
		if err != nil || !s.all(func(v view) bool { return v.Owner != "" }) {
			return false, err
		}
		slot, err = d.db.slot(ctx)
		return slot != "" || !streams, err
	})
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("the relay is not ready after %v; %s", startTimeout, d.relay.logTail())
	}
	if slot != "" {
		d.say("  it is up: PostgreSQL streams commits to it through the temporary slot %s", slot)
	} else if err == nil {
		d.say("  it is up, without a replication slot: it follows by %s", d.follow)
	}
	return err
}

var errTimeout = errors.New("timeout")

// poll asks until the answer is yes.
func poll(ctx context.Context, timeout time.Duration, ask func() (bool, error)) error {
	for deadline := time.Now().Add(timeout); ; {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errTimeout
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
