package torture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// patience is how long nothing at all may arrive while something is missing.
	patience = 45 * time.Second
	// settleTime is how long what is parked may take to be tried once more after all is well.
	settleTime = 45 * time.Second
)

// Run runs one round: a world, producers, faults; then everything is mended, must arrive, and is judged. The error is a failure
// of the checker itself; what the product did wrong is in the report.
func Run(ctx context.Context, c Config) (_ *Report, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.draw()
	c.say("round with seed %d: follow %s, relays %d, NATS servers %d, with a standby: %v, further destinations: %s", c.Seed, c.Follow, c.Relays, c.NATSServers, c.Standby,
		cmp.Or(strings.Join(c.Destinations, ", "), "none"))
	w, err := newWorld(ctx, c)
	if err != nil {
		return nil, err
	}
	r := &Report{Config: w.Config, LeftOut: w.brokers.leftOut}
	defer func() {
		err = errors.Join(err, w.close())
		if c.Dir == "" && len(r.Violations) == 0 && err == nil {
			err = os.RemoveAll(w.dir)
		} else {
			c.say("logs are kept in %s", w.dir)
		}
	}()
	return r, w.run(ctx, r)
}

// draw fills in what the configuration leaves to chance.
func (c *Config) draw() {
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	follow, relays, servers := Ways[rng.IntN(len(Ways))], 1+rng.IntN(3), 1+2*rng.IntN(2)
	c.Follow = cmp.Or(c.Follow, follow)
	c.Relays = cmp.Or(c.Relays, relays)
	c.NATSServers = cmp.Or(c.NATSServers, servers)
	c.drawStandby(rng)
	c.drawDestinations(rng)
	c.Pause = cmp.Or(c.Pause, time.Second)
	c.Calm = cmp.Or(c.Calm, 1)
}

// run is a round in a world that is up.
func (w *world) run(ctx context.Context, r *Report) error {
	before, err := w.measure(ctx)
	if err != nil {
		return err
	}
	if err := w.traffic(ctx); err != nil {
		return err
	}
	return w.conclude(ctx, r, before)
}

// conclude mends everything, waits until all has arrived, and judges.
func (w *world) conclude(ctx context.Context, r *Report, before size) error {
	w.say("mending everything; waiting for what is still on its way")
	if err := w.mend(ctx); err != nil {
		return err
	}
	truth, err := w.truth(ctx)
	if err != nil {
		return err
	}
	w.await(ctx, truth)
	w.checkCancels(ctx)
	w.checkSchedules(ctx)
	w.checkOperations(ctx)
	w.tellEvents(ctx)
	w.checkSettled(ctx, truth)
	w.checkSize(ctx, before)
	w.restart(ctx)
	if truth, err = w.truth(ctx); err != nil {
		return err
	}
	w.checkLeftovers(ctx)
	w.fail(w.loadLedger(ctx, truth))
	r.judge(w, truth)
	return ctx.Err()
}

// traffic lets producers write while faults are injected.
func (w *world) traffic(ctx context.Context) error {
	w.apps.start(ctx, kinds(w.Follow, w.hasJobs()), w.Calm)
	defer w.apps.stop()
	injecting, cancel := context.WithTimeout(ctx, w.Duration)
	defer cancel()
	targets := make(map[target][]*Fault)
	for _, f := range w.chosen() {
		targets[f.Hits] = append(targets[f.Hits], f)
	}
	failed := make(chan error, len(targets))
	var group sync.WaitGroup
	for t, list := range targets {
		group.Go(func() { failed <- w.inject(injecting, ctx, list, w.rng(string(t))) })
	}
	group.Go(func() { w.watch(injecting) })
	group.Go(func() { w.keepPooler(injecting) })
	group.Go(func() { w.sweep(injecting) })
	<-injecting.Done()
	group.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// inject injects the faults of one target, one at a time, all of them before one comes again, and each of them once at least.
func (w *world) inject(injecting, ctx context.Context, list []*Fault, rng *rand.Rand) error {
	for once := false; len(list) > 0; once = true {
		order := slices.Clone(list)
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, f := range order {
			if !pause(injecting, span(rng, w.Pause/2, w.Pause*3/2)) && once {
				return nil
			}
			w.say("%s: %s", f.Name, f.About)
			i := Incident{Fault: f.Name, From: time.Now(), Hits: f.Hits, Repeats: f.Repeats, Replays: f.Replays, Reorders: f.Reorders}
			if f.Delays && w.handsOver() {
				i.Repeats = all
			}
			if w.handsOver() {
				i.Repeats = slices.Concat(i.Repeats, f.Unanswered)
			}
			err := f.Inject(ctx, w, rng)
			i.To = time.Now()
			w.incident(i)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("inject %s: %w", f.Name, err)
			}
		}
		list = slices.DeleteFunc(list, func(f *Fault) bool { return f.Once })
	}
	return nil
}

// keepPooler is the pooler's supervisor.
func (w *world) keepPooler(ctx context.Context) {
	for w.db.pooler != nil && pause(ctx, 300*time.Millisecond) {
		// What it cannot do while the server is away, it tries again, at the latest when all is mended.
		if err := w.revivePooler(ctx); err != nil {
			w.say("%v", err)
		}
	}
}

func (w *world) revivePooler(ctx context.Context) error {
	if w.db.pooler == nil {
		return nil
	}
	log, err := w.db.pooler.Revive(ctx)
	if log != "" {
		w.say("the pooler is started again: %s", log)
	}
	return err
}

// mend brings back whatever is missing.
func (w *world) mend(ctx context.Context) error {
	if err := w.revivePooler(ctx); err != nil {
		return err
	}
	// A failover may have lost the end of a pause, like anything else that its standby had not got.
	err := w.db.try(ctx, "SELECT postrider.resume(name) FROM postrider.subscriptions WHERE state = 'paused' AND paused_reason = 'maintenance'")
	if err != nil {
		return err
	}
	for _, r := range w.relays {
		if err := r.start(); err != nil {
			return err
		}
	}
	return w.awaitReady(ctx)
}

// truth asks the database what became of the producers' transactions.
func (w *world) truth(ctx context.Context) (*truth, error) {
	committed, err := w.db.settle(ctx)
	if err != nil {
		return nil, err
	}
	t := w.apps.history.settle(committed, w.db.replaced())
	w.apps.history.settleCalls(t, committed, w.db.replaced())
	return t, errors.Join(w.loadCancelled(ctx, t), w.loadLog(ctx, t))
}

// await waits until everything has arrived, or nothing arrives any more.
func (w *world) await(ctx context.Context, t *truth) {
	due, looked := w.due(t), time.Now()
	last, since := -1, time.Now()
	for {
		if time.Since(looked) > time.Second { // what was superseded is cancelled meanwhile
			if err := w.loadCancelled(ctx, t); err == nil {
				due, looked = w.due(t), time.Now()
			}
		}
		missing, err := w.missing(ctx, due)
		if missing == 0 && err == nil {
			return
		}
		if missing != last {
			last, since = missing, time.Now()
		}
		if time.Since(since) > patience || !pause(ctx, 50*time.Millisecond) {
			w.say("%d deliveries are missing and nothing arrives any more (%v)", missing, err)
			return
		}
	}
}

// due returns what has to arrive at each subscription.
func (w *world) due(t *truth) map[*subscription][]int64 {
	e := &evidence{truth: t}
	due := make(map[*subscription][]int64)
	for _, s := range w.subs {
		due[s] = w.apps.history.cancels.unasked(s.Name, e.due(s.Expectation))
	}
	return due
}

// missing counts what has not arrived.
func (w *world) missing(ctx context.Context, due map[*subscription][]int64) (n int, err error) {
	for s, ids := range due {
		switch {
		case s.stream != nil:
			err = errors.Join(err, s.stream.catchUp(ctx))
		case s.Name == taken:
			err = errors.Join(err, w.catchUpEffects(ctx))
		case s.Name == copied:
			err = errors.Join(err, w.catchUpCopies(ctx))
		case w.brokers.running[s.Name] != nil:
			err = errors.Join(err, w.brokers.running[s.Name].catchUp(ctx))
		}
		n += s.book.missing(ids)
	}
	return n, err
}

// restart stops the relays as one should, starts them again and sends a message to each subscription: nothing may come twice.
func (w *world) restart(ctx context.Context) {
	for _, r := range w.relays {
		w.fail(r.stop())
	}
	w.checkSlots(ctx, 0)
	if err := w.mend(ctx); err != nil {
		w.fail(fmt.Errorf("after a clean stop: %w", err))
		return
	}
	var more []Message
	if w.db.hasLedger {
		more = []Message{{Topic: "effect.mark"}}
		for class := range 4 {
			more = append(more, Message{Topic: "classed.x", Class: class + 1})
		}
	}
	w.fail(w.apps.mark(ctx, more...))
	w.apps.history.awaited = time.Now()
	truth, err := w.truth(ctx)
	if err != nil {
		w.fail(err)
		return
	}
	w.await(ctx, truth)
	w.checkSegments(ctx)
	for _, r := range w.relays {
		w.fail(r.stop())
	}
}
