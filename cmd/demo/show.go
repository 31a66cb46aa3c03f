package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	openFor      = 20 * time.Second // the shop's hours
	drainTimeout = 25 * time.Second
	slotTimeout  = 5 * time.Second
)

// perform is the show: the shop's hours, the rest of the deliveries, the redrive, the end of the relay, the result.
func (d *demo) perform(ctx context.Context) error {
	if err := d.trade(ctx); err != nil {
		return err
	}
	d.say("the shop has closed; waiting for what is under way, and for what is scheduled …")
	if err := d.drain(ctx, "delivered or buried", status.settled); err != nil {
		return err
	}
	if err := d.redrive(ctx); err != nil {
		return err
	}
	d.show(nil)
	if d.keep {
		if err := d.result(ctx); err != nil {
			return err
		}
		d.play(ctx)
		return d.stopRelay()
	}
	if err := d.stopRelay(); err != nil {
		return err
	}
	return d.result(ctx)
}

// trade runs the application, and what goes wrong at the receiver, with the figures on the screen.
func (d *demo) trade(ctx context.Context) error {
	d.say("the shop opens for %v: orders and payments in real transactions, some of which roll back", openFor)
	if !d.live {
		d.say("  each line: messages committed; delivered to each, + under way, median delay")
	}
	open, closeShop := context.WithTimeout(ctx, openFor)
	defer closeShop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.shop.trade(ctx, open) })
	group.Go(func() error { d.misfortunes(open); return nil })
	group.Go(func() error {
		return every(ctx, open, d.interval(), func() error { _, err := d.look(ctx); return err })
	})
	return group.Wait()
}

// misfortunes is what goes wrong at the receiver, beside the attempts that fail now and then.
func (d *demo) misfortunes(open context.Context) {
	for _, m := range []struct {
		after time.Duration
		what  string
		run   func()
	}{
		{4 * time.Second, "an order comes in for " + cursedItem, func() { d.shop.curse.Store(true) }},
		{4 * time.Second, "fulfilment goes down: it answers 503 to everything", func() { d.hooks.down.Store(true) }},
		{2 * time.Second, "fulfilment is back", func() { d.hooks.down.Store(false) }},
	} {
		select {
		case <-open.Done():
			return
		case <-time.After(m.after):
			d.say("%s", m.what)
			m.run()
		}
	}
}

// look takes the figures, shows them, and says what is new.
func (d *demo) look(ctx context.Context) (status, error) {
	s, err := d.status(ctx, time.Now().Add(-recent))
	if err != nil {
		return s, err
	}
	if d.live {
		d.show(s.panel(d.shop))
	} else {
		d.say("%s", s.summary())
	}
	for _, v := range s.views {
		if v.Trouble != d.trouble[v.name] && v.Trouble != "" && !d.live {
			d.say("  %s: %s", v.name, v.Trouble)
		}
		d.trouble[v.name] = v.Trouble
	}
	letters, err := d.db.deadLetters(ctx)
	for _, l := range letters {
		if _, known := d.buried[l.ID]; !known {
			d.buried[l.ID] = l
			d.say("  buried: message %d for %s (%s, %s)", l.ID, l.Subscription, l.Topic, l.Key)
			d.say("    %s", l.Reason)
		}
	}
	return s, err
}

// status takes the figures; delays are those of messages that arrived since then.
func (d *demo) status(ctx context.Context, since time.Time) (s status, err error) {
	standings, err := d.db.standings(ctx)
	for _, sub := range d.subs {
		s.views = append(s.views, view{sub, d.book.tally(sub.name, sub.wants, since), standings[sub.name]})
	}
	s.committed, s.rolledBack = d.book.totals()
	return s, err
}

// drain waits until the status is as wanted.
func (d *demo) drain(ctx context.Context, what string, done func(status) bool) error {
	var s status
	shown := time.Now()
	err := poll(ctx, drainTimeout, func() (_ bool, err error) {
		if s, err = d.status(ctx, time.Now()); err != nil {
			return false, err
		}
		if done(s) || time.Since(shown) > d.interval() {
			shown = time.Now()
			s, err = d.look(ctx)
		}
		return done(s), err
	})
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("not everything was %s within %v: %s; %s", what, drainTimeout, s.summary(), d.relay.logTail())
	}
	return err
}

// redrive mends the receiver and has the dead letters tried again.
func (d *demo) redrive(ctx context.Context) error {
	if len(d.buried) == 0 {
		return nil
	}
	d.hooks.mended.Store(true)
	for id := range d.buried {
		d.book.excuse(id)
	}
	args := []string{"parked", "redrive", "fulfilment", "--all"}
	d.say("fulfilment has it in stock now; the dead letter is tried again:")
	d.say("  $ postrider %s", strings.Join(args, " "))
	out, err := d.relay.command(args...).CombinedOutput()
	d.say("  %s", strings.TrimSpace(string(out)))
	if err != nil {
		return fmt.Errorf("redrive the dead letters: %w", err)
	}
	return d.drain(ctx, "delivered", status.delivered)
}

// stopRelay stops the relay in order and shows that it left no replication slot.
func (d *demo) stopRelay() error {
	if err := d.relay.stop(); err != nil {
		return err
	}
	ctx := context.Background()
	// The server notices that the connection is gone a moment later.
	err := poll(ctx, slotTimeout, func() (bool, error) {
		slot, err := d.db.slot(ctx)
		return slot == "", err
	})
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("the relay has stopped, but its replication slot is still there after %v", slotTimeout)
	}
	if err == nil {
		d.say("the relay has stopped; replication slots left in the database: none")
	}
	return err
}
