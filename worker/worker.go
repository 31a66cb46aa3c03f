package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox/topic"
)

// Source is where jobs come from: Pull or SQL.
type Source interface {
	// concurrency is the default of Config.Concurrency.
	concurrency() int
	// run takes and does jobs until ctx is cancelled and the handlers have ended or had their time.
	run(ctx context.Context, w *Worker) error
}

// Worker takes jobs and does them.
type Worker struct {
	cfg           Config
	source        Source
	routes        []route
	subscriptions []string // in the order of the routes
	running       atomic.Bool
}

// route is a Route whose pattern is understood.
type route struct {
	Route
	matcher *topic.Matcher // nil: all topics
}

// New returns a worker that Run lets work. A *ConfigError names what is wrong.
func New(source Source, c Config) (*Worker, error) {
	if source == nil {
		return nil, errors.New("worker: the source is nil: give Pull(url) or SQL(pool)")
	}
	c, err := c.complete(source.concurrency())
	if err != nil {
		return nil, err
	}
	w := &Worker{cfg: c, source: source}
	seen := map[string]bool{}
	for _, r := range c.Routes {
		known := route{Route: r}
		if r.Topic != "" {
			if known.matcher, err = topic.NewMatcher([]string{r.Topic}); err != nil {
				return nil, fmt.Errorf("worker: route for %s: %w", r.Subscription, err)
			}
		}
		w.routes = append(w.routes, known)
		if !seen[r.Subscription] {
			seen[r.Subscription] = true
			w.subscriptions = append(w.subscriptions, r.Subscription)
		}
	}
	return w, nil
}

// Run takes jobs and does them until ctx is cancelled. Then it takes no more, gives the handlers Config.Drain to end, cancels their contexts,
// releases what is left without counting an attempt, and returns nil. Whatever can pass, such as a server that is away, it waits for; an
// error is one that cannot, such as a subscription that does not exist.
func (w *Worker) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("worker: Run was called while it runs already")
	}
	defer w.running.Store(false)
	return w.source.run(ctx, w)
}

// find returns the handler of a job.
func (w *Worker) find(job *Job) (Handler, bool) {
	for _, r := range w.routes {
		if r.Subscription == job.Subscription && (r.matcher == nil || r.matcher.Match(job.Topic)) {
			return r.Handle, true
		}
	}
	return nil, false
}

// Subscriptions are the names that the routes name, in their order.
func (w *Worker) Subscriptions() []string { return slices.Clone(w.subscriptions) }

// Handles reports whether a route fits.
func (w *Worker) Handles(subscription, topic string) bool {
	_, ok := w.find(&Job{Subscription: subscription, Topic: topic})
	return ok
}

// Do lets the handler do one job here and now and returns what became of it, without telling anybody: Run does so with each job. The
// transaction is what Job.Tx returns. It is made for tests, where package workertest calls it.
func (w *Worker) Do(ctx context.Context, tx pgx.Tx, job *Job) Outcome {
	handle, ok := w.find(job)
	if !ok {
		return Outcome{Kind: kindRetry, Reason: fmt.Sprintf("worker %s has no handler for topic %s of subscription %s", w.cfg.Name, job.Topic, job.Subscription)}
	}
	if tx != nil {
		job.tx = jobTx{tx}
	}
	return judge(ctx, job, w.invoke(ctx, handle, job))
}
