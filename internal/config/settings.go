package config

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/subscription"
)

// prefix begins the name of each environment variable. Fields are named by split_words alone: with a name in an envconfig
// tag, envconfig would also read the variable without the prefix.
const prefix = "POSTRIDER"

// Settings is the configuration from the environment: one member is one setting, and its tags are all that is to be said of it.
// Environment, checks, help, the table of docs/settings.md and redaction are made from them.
//
//	split_words  the variable is named after the member
//	default      as one would write it
//	min, max     bounds, written like values
//	one          the words that are allowed
//	show         what hides secrets in it: database or url
//	of           subscription: it has no effect without the subscription that the environment describes
//	then         fields: what subscription.Fields lists follows in the documentation
//	desc         what it means, for people
type Settings struct {
	Servers

	Sink         Text      `split_words:"true" show:"url" desc:"Destination of the one subscription that the environment describes: nats://host:4222?stream=ORDERS, https://host/hook or stdout:"`
	Topics       topicList `split_words:"true" desc:"Topic patterns of this subscription, separated by commas, such as orders.>,payments.*"`
	Subscription Text      `split_words:"true" of:"subscription" default:"default" desc:"Name of this subscription."`
	Start        Text      `split_words:"true" of:"subscription" then:"fields" default:"earliest" desc:"Where this subscription begins when it is created: earliest (all that is retained), now, or a time such as 2026-01-31T12:00:00Z. In files and in SQL the default is now."`

	// OfSubscription are what subscription.Fields lists, each in a variable of its name.
	OfSubscription subscription.Settings `ignored:"true"`

	SecretsDir   Text         `split_words:"true" desc:"The directory that the files have to be in that subscriptions refer to (secrets, certificates, NATS credentials), such as /run/secrets; symbolic links do not lead out of it. Default: none can be used."`
	SecretsAllow variableList `split_words:"true" desc:"Environment variables that subscriptions may refer to, separated by commas, beside those whose names begin with POSTRIDER_SECRET_."`

	Config Text `split_words:"true" desc:"YAML file of subscriptions, applied at start."`

	Follow  Text `split_words:"true" default:"auto" one:"auto, stream, listen, timer" desc:"What tells the relay of new messages: auto (stream where the server allows it, else timer), stream (logical replication), listen (LISTEN/NOTIFY) or timer."`
	Migrate flag `split_words:"true" default:"true" desc:"Whether run brings the schema up to date first."`
	Name    Text `split_words:"true" desc:"Name of this relay in status. Default: the host name."`

	Retention          duration `split_words:"true" default:"24h" max:"87600h" desc:"How long settled messages stay in the outbox at least: up to 87600h (10 years)."`
	DeadRetention      duration `split_words:"true" desc:"How long dead letters stay in the database, after their messages have left the outbox. Default: for ever. Those of a subscription with on_dead: hold stay in any case."`
	DiscardedRetention duration `split_words:"true" default:"720h" desc:"How long discarded messages stay in the database, after they have left the outbox; 0s: for ever."`

	Lease        duration    `split_words:"true" default:"10s" min:"500ms" desc:"How long a relay may be silent before another takes its subscriptions over."`
	SaveInterval duration    `split_words:"true" default:"1s" min:"10ms" desc:"Time between saves of progress."`
	PollMin      duration    `split_words:"true" default:"500us" min:"100us" desc:"Shortest time between two looks at the database."`
	PollMax      duration    `split_words:"true" default:"500ms" min:"1ms" desc:"Longest time between two looks at the database, when it is idle."`
	MemoryLimit  ByteSize    `split_words:"true" default:"64MiB" min:"1MiB" desc:"Bound for messages held in memory, half of it for large ones. What is larger than that half passes one at a time, beside the rest. Default in a container of less than 512MiB: an eighth of its memory."`
	MaxMessage   messageSize `split_words:"true" desc:"Largest message that the database accepts: key, payload as text and body together; and its headers. A relay that has it sets it for all; the last to start wins. From 64KiB to 256MiB. Default: what the database has, 16MiB at first."`
	WALBudget    ByteSize    `split_words:"true" default:"1GiB" min:"1MiB" desc:"How much WAL the stream may hold back before it is given up for a while."`
	DrainTimeout duration    `split_words:"true" default:"20s" desc:"How long a clean stop waits for deliveries under way."`

	HTTPAddr Address `split_words:"true" default:"127.0.0.1:8480" desc:"Where /healthz, /readyz and /metrics are served; empty or off: nowhere."`

	API
	Callbacks

	LogLevel  level `split_words:"true" default:"info" desc:"debug, info, warn or error."`
	LogFormat Text  `split_words:"true" default:"text" one:"text, json" desc:"text or json."`
}

// Servers are the database's.
type Servers struct {
	DatabaseURL Text `split_words:"true" show:"database" desc:"PostgreSQL connection string, such as postgres://user:password@host:5432/db. Required."`
	ReplicaURL  Text `split_words:"true" show:"database" desc:"Connection string of a hot standby. Passes that catch up or replay are read there, once it has come far enough, so that they cost the primary next to nothing; without it, or while it fails, from the primary."`
}

// Load reads the environment. The flag, if given, wins over POSTRIDER_DATABASE_URL.
func Load(databaseURL string) (*Settings, error) {
	var s Settings
	if err := read(&s); err != nil {
		return nil, err
	}
	if err := readFields(&s.OfSubscription); err != nil {
		return nil, err
	}
	if databaseURL != "" {
		s.DatabaseURL = Text(databaseURL)
	}
	if s.Name == "" {
		name, _ := os.Hostname()
		s.Name = Text(name)
	}
	s.fitMemory(ContainerMemory(os.DirFS("/")))
	return &s, s.validate()
}

// validate checks what the types alone cannot. The subscription's settings are checked where it is put together.
func (s *Settings) validate() error {
	if err := check(s); err != nil {
		return err
	}
	if s.PollMax < s.PollMin {
		return fmt.Errorf("POSTRIDER_POLL_MAX=%s: must be at least POSTRIDER_POLL_MIN (%s)", time.Duration(s.PollMax), time.Duration(s.PollMin))
	}
	if s.ReplicaURL != "" {
		if _, err := dbconn.ParseReplica(string(s.ReplicaURL)); err != nil {
			return fmt.Errorf("POSTRIDER_REPLICA_URL: must be the connection string of a hot standby, such as postgres://user@standby:5432/db: %w", err)
		}
	}
	if err := s.checkSecrets(); err != nil {
		return err
	}
	return errors.Join(s.checkCallbacks(), s.checkAPI())
}

// RequireDatabase says what to do when no database is named.
func (s *Settings) RequireDatabase() error {
	if s.DatabaseURL == "" {
		return errors.New("no database: set POSTRIDER_DATABASE_URL (or --database-url) to a connection string such as postgres://user@host:5432/db")
	}
	return nil
}
