package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/outbox/topic"
)

// Handler does one job. What it returns decides what becomes of the job: nil settles it, an error tries it again after the
// subscription's backoff, and Retry, Dead and Snooze say more. A panic is an error with the panic's text and the head of its stack.
//
// The context is cancelled when the work is no longer wanted; its cause (context.Cause) is ErrLost, ErrCancelled or ErrShutdown.
type Handler func(ctx context.Context, job *Job) error

// Route says which handler does what.
type Route struct {
	// Subscription is the name of the subscription that the jobs come from.
	Subscription string
	// Topic is a pattern as subscriptions have them, such as mail.* or mail.>; empty: all topics of the subscription.
	Topic string
	// Handle does the job.
	Handle Handler
}

// Config is what New needs beside the source. Only Routes must be given.
type Config struct {
	// Name is the worker's, as status shows it: one of its own, since a worker that calls by a name takes over from whoever called by it before.
	// Default: the host's name with the process's id.
	Name string
	// Routes are the handlers; the first one that fits does a job. Jobs of a subscription that is named earlier are taken first.
	Routes []Route
	// Concurrency bounds the jobs that run at once, 10 by default. With SQL it is the number of transactions, and so of
	// connections, at once, 4 by default: the jobs of one transaction run one after the other.
	Concurrency int
	// Batch bounds the jobs of one transaction, 10 by default, at most 1000. Only SQL uses it.
	Batch int
	// Repeatable says that handlers do nothing outside of their transaction, so that they may be called again for the same attempt. Then the jobs of
	// a transaction share one savepoint, which costs PostgreSQL less; if one fails, those before it are undone with it and done again. Without it
	// each job has a savepoint of its own. Only SQL uses it.
	Repeatable bool
	// Token is what Pull shows relays that have POSTRIDER_API_TOKENS: a worker's or an admin's.
	Token string
	// Limit is how long a transaction may last, 5 minutes by default: then PostgreSQL ends it and others get its jobs. Only SQL uses it;
	// with Pull the subscription's attempt_timeout says how long an attempt may last.
	Limit time.Duration
	// Poll is how long SQL waits before it looks again when there was nothing: 25 ms by default, a second with Listen.
	Poll time.Duration
	// Listen makes SQL use one more connection that LISTENs, so that jobs are noticed at their COMMIT. The database must notify, which
	// postrider.enable_notify() turns on.
	Listen bool
	// Beat is how often Pull says that the worker lives, 4 s by default. A worker that is silent for the subscription's worker_ttl (15 s
	// by default) has lost its jobs, so a shorter worker_ttl wants a Beat of a third of it.
	Beat time.Duration
	// Drain is how long handlers may go on once Run's context is cancelled, 20 s by default. Then their contexts are cancelled, and
	// what does not end within another two seconds is released.
	Drain time.Duration
	// OnLate is called when a job was done after others had got it: the work was done in vain, and the handler's effects may
	// have to be undone. Only Pull calls it, from one goroutine.
	OnLate func(job *Job)
	// Context makes the context that the handler of a job gets out of the one that it would get, such as one that continues the trace that
	// the job's headers name. It must descend from that. Nil changes nothing.
	Context func(ctx context.Context, job *Job) context.Context
	// Logger is told what goes wrong. Default: slog.Default().
	Logger *slog.Logger
}

// ConfigError is an error of the configuration.
type ConfigError struct {
	Setting string // such as Concurrency or Routes[2].Topic
	Value   any
	Want    string // what would be right
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("worker: %s is %#v: %s", e.Setting, e.Value, e.Want)
}

// unnamed counts the workers of this process that have no name of their own.
var unnamed atomic.Int64

const maxBatch = 1000 // as much as a take may ask for

// complete fills in the defaults and refuses what cannot be.
func (c Config) complete(defaultConcurrency int) (Config, error) {
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("worker: Name is empty and the host has none either: %w", err)
		}
		c.Name = fmt.Sprintf("%s-%d", name, os.Getpid())
		if n := unnamed.Add(1); n > 1 {
			c.Name += fmt.Sprintf("-%d", n)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if len(c.Routes) == 0 {
		return c, errors.New("worker: Routes is empty: give a Route for each subscription to take jobs from")
	}
	for i, r := range c.Routes {
		if err := r.check(fmt.Sprintf("Routes[%d].", i)); err != nil {
			return c, err
		}
	}
	poll := 25 * time.Millisecond
	if c.Listen {
		poll = time.Second
	}
	return c, errors.Join(
		number("Concurrency", &c.Concurrency, defaultConcurrency, 100_000),
		number("Batch", &c.Batch, 10, maxBatch),
		duration("Limit", &c.Limit, 5*time.Minute, 100*time.Millisecond),
		duration("Poll", &c.Poll, poll, time.Millisecond),
		duration("Beat", &c.Beat, 4*time.Second, 10*time.Millisecond),
		duration("Drain", &c.Drain, 20*time.Second, time.Nanosecond),
	)
}

func (r Route) check(where string) error {
	if strings.TrimSpace(r.Subscription) == "" {
		return &ConfigError{where + "Subscription", r.Subscription, "give the name of a subscription"}
	}
	if r.Topic != "" {
		if err := topic.ValidatePattern(r.Topic); err != nil {
			return fmt.Errorf("worker: %sTopic: %w", where, err)
		}
	}
	if r.Handle == nil {
		return fmt.Errorf("worker: %sHandle is nil: give the function that does the jobs", where)
	}
	return nil
}

func number(setting string, value *int, byDefault, most int) error {
	if *value == 0 {
		*value = byDefault
	}
	if *value < 1 || *value > most {
		return &ConfigError{setting, *value, fmt.Sprintf("give 1 to %d, or 0 for %d", most, byDefault)}
	}
	return nil
}

func duration(setting string, value *time.Duration, byDefault, least time.Duration) error {
	if *value == 0 {
		*value = byDefault
	}
	if *value < least {
		return &ConfigError{setting, value.String(), fmt.Sprintf("give %v or more, or 0 for %v", least, byDefault)}
	}
	return nil
}
