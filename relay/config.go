package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/feed"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// Follow says what causes ticks.
type Follow string

// The ways to follow. FollowAuto is FollowStream where the server allows it, else FollowTimer.
const (
	FollowAuto   Follow = "auto"
	FollowStream Follow = "stream"
	FollowListen Follow = "listen"
	FollowTimer  Follow = "timer"
)

// Config is what a relay needs to run. Zero values of the optional fields stand for the defaults named beside them.
type Config struct {
	// Servers say where the database is.
	Servers
	// Open connects to the destination of a subscription. It must not wait for the destination to answer. After an error this relay
	// leaves the subscription to others, with the error as its reason, and tries again from time to time; an error made by Unusable
	// pauses the subscription for all. If the error has a method Detail() string, that goes into the log alone. Required.
	Open func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error)
	// Defaults fills in settings that have another default for the kind of the subscription's destination than the one named
	// beside them. Optional.
	Defaults func(s *subscription.Subscription)
	// Name is shown as the owner of cursors. Default: "relay".
	Name string
	// Version is the build's version, shown beside the name.
	Version string
	// API is where workers can ask this process, nil if they cannot.
	API *API
	// Declared are the subscriptions that this process was started with, by name. Relays that were started with different ones of
	// one name are told of each other. Optional.
	Declared map[string]Declaration
	// Follow says what causes ticks. Default: FollowAuto.
	Follow Follow
	// Retention is how long settled messages stay in the outbox at least. Default: 24 h.
	Retention time.Duration
	// Lease is how long a relay may be silent before another takes its cursors. Default: 10 s.
	Lease time.Duration
	// SaveInterval is the time between saves of progress. Default: 1 s.
	SaveInterval time.Duration
	// PollMin and PollMax bound the timer between ticks. Default: 0.5 ms and 500 ms.
	PollMin, PollMax time.Duration
	// MemoryLimit bounds the bytes of messages held in memory, half of it those of large ones; one that is larger than that is
	// held beside it. Default: 64 MiB.
	MemoryLimit int64
	// Keep says how long what is over stays.
	Keep
	// WALBudget is how much WAL the slot may hold back before the stream is given up for a while. Default: 1 GiB.
	WALBudget int64
	// DrainTimeout bounds how long a clean stop waits for deliveries under way. Default: 20 s.
	DrainTimeout time.Duration
	// Logger receives what an operator should know. Default: slog.Default().
	Logger *slog.Logger
	// Registerer receives the metrics. Default: none are kept.
	Registerer prometheus.Registerer

	forTests
}

// forTests is what nobody else sets.
type forTests struct {
	moment        time.Duration // what fails for longer counts
	callbackEvery time.Duration // between looks for callbacks; tests of what needs none make it long
	placeOf       func(context.Context, *dbconn.Conn, *pgx.ConnConfig) (dbconn.Place, error)
	lookEvery     time.Duration // between looks at the database for metrics
	lookShare     time.Duration // and so many times as long as the last one took
	busyRate      float64       // of transactions a second; tests cannot make as many as it takes
	largest       int64         // bytes of a message that is read at all; tests need not make as many as it takes
}

// Servers are the database's.
type Servers struct {
	// DatabaseURL is a PostgreSQL connection string, several hosts allowed. Required.
	DatabaseURL string
	// ReplicaURL is the connection string of a hot standby: what is caught up with or replayed is read there as far as it has come. Optional.
	ReplicaURL string
}

// Keep is how long deliveries stay that are over.
type Keep struct {
	// DeadRetention is how long dead letters stay, after the outbox has let their messages go; zero: for ever. Those of a subscription
	// with on_dead: hold stay in any case.
	DeadRetention time.Duration
	// DiscardedRetention is how long discarded messages stay, after the outbox has let them go; zero: for ever.
	DiscardedRetention time.Duration
}

// Declaration is what a process's environment or file says of a subscription, as others see it.
type Declaration struct {
	Sum  string `json:"sum"`  // equal for what means the same
	Sink string `json:"sink"` // without secrets
}

// largestMessage is the least bound above which a message is never delivered; four times the bound on memory is the other.
const largestMessage = 256 << 20

// longestRetention keeps the lengths of segments and the times that are worked out from them within what PostgreSQL can reckon with.
const longestRetention = 10 * 365 * 24 * time.Hour

// validate says which setting is wrong, with its value and what would be right. What is left to its default is right.
func (c Config) validate() error {
	c = c.withDefaults()
	if c.DatabaseURL == "" {
		return errors.New("database URL is empty: it must be a PostgreSQL connection string such as postgres://user@host:5432/db")
	}
	if _, err := dbconn.ParseConfig(c.DatabaseURL); err != nil {
		return err
	}
	if c.ReplicaURL != "" {
		if _, err := dbconn.ParseReplica(c.ReplicaURL); err != nil {
			return fmt.Errorf("replica: %w", err)
		}
	}
	if c.Open == nil {
		return errors.New("no function to open sinks")
	}
	ways := []string{string(FollowAuto), string(FollowStream), string(FollowListen), string(FollowTimer)}
	if !slices.Contains(ways, string(c.Follow)) {
		return fmt.Errorf("follow %q: must be one of %s", c.Follow, strings.Join(ways, ", "))
	}
	for _, d := range []struct {
		name     string
		is, from time.Duration
	}{
		{"retention", c.Retention, 0},
		{"lease", c.Lease, 500 * time.Millisecond},
		{"save interval", c.SaveInterval, 10 * time.Millisecond},
		{"shortest poll interval", c.PollMin, 100 * time.Microsecond},
		{"longest poll interval", c.PollMax, c.PollMin},
		{"drain timeout", c.DrainTimeout, 0},
		{"retention of dead letters", c.DeadRetention, 0},
		{"retention of discarded messages", c.DiscardedRetention, 0},
	} {
		if d.is < d.from {
			return fmt.Errorf("%s %s: must be at least %s", d.name, d.is, d.from)
		}
	}
	if c.Retention > longestRetention {
		return fmt.Errorf("retention %s: must be at most %s (10 years)", c.Retention, longestRetention)
	}
	if c.MemoryLimit < 1<<20 {
		return fmt.Errorf("memory limit %d: must be at least %d bytes", c.MemoryLimit, 1<<20)
	}
	return nil
}

// withDefaults returns the configuration with the defaults in place of zero values.
func (c Config) withDefaults() Config {
	fill(&c.Name, "relay")
	fill(&c.Follow, FollowAuto)
	fill(&c.Retention, 24*time.Hour)
	fill(&c.Lease, 10*time.Second)
	fill(&c.SaveInterval, time.Second)
	fill(&c.busyRate, feed.BusyRate)
	fill(&c.moment, health.Moment)
	fill(&c.lookEvery, lookEvery)
	fill(&c.lookShare, lookShare)
	fill(&c.callbackEvery, callbackEvery)
	if c.placeOf == nil {
		c.placeOf = dbconn.PlaceOf
	}
	fill(&c.PollMin, 500*time.Microsecond)
	fill(&c.PollMax, max(500*time.Millisecond, c.PollMin))
	fill(&c.MemoryLimit, 64<<20)
	fill(&c.largest, max(4*c.MemoryLimit, largestMessage))
	fill(&c.WALBudget, 1<<30)
	fill(&c.DrainTimeout, 20*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func fill[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// settle decodes a subscription's settings and fills in the defaults: those of its kind of destination, then the engine's.
func (c *Config) settle(s *subscription.Subscription, settings []byte) (err error) {
	if s.Settings, err = subscription.DecodeSettings(settings); err != nil {
		return onlyHere(err)
	}
	if c.Defaults != nil {
		c.Defaults(s)
	}
	if err := s.Settings.Validate(); err != nil {
		return onlyHere(err)
	}
	s.Settings = s.Settings.WithDefaults()
	return nil
}

// onlyHere tells what a newer build may know, as during a deploy, from what is wrong in any.
func onlyHere(err error) error {
	if _, unknown := errors.AsType[*sinks.UnknownError](err); unknown {
		return lacks(err)
	}
	if err != nil {
		return Unusable(err)
	}
	return nil
}
