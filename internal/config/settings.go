package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// prefix begins the name of each environment variable. Fields are named by split_words alone: with a name in an envconfig
// tag, envconfig would also read the variable without the prefix.
const prefix = "POSTRIDER"

// Settings is the configuration from the environment. README's table is generated from it.
type Settings struct {
	DatabaseURL string `split_words:"true" desc:"PostgreSQL connection string, such as postgres://user:password@host:5432/db. Required."`

	Sink         string    `split_words:"true" desc:"Destination of the one subscription that the environment describes: nats://host:4222?stream=ORDERS, https://host/hook or stdout:"`
	Topics       topicList `split_words:"true" desc:"Topic patterns of this subscription, separated by commas, such as orders.>,payments.*"`
	Subscription string    `split_words:"true" default:"default" desc:"Name of this subscription."`
	Start        string    `split_words:"true" default:"earliest" desc:"Where this subscription begins when it is created: earliest (all that is retained), now, or a time such as 2026-01-31T12:00:00Z. In files and in SQL the default is now."`

	Ordering       string   `split_words:"true" desc:"key (messages of one key in order, the default), none, or strict (one message at a time)."`
	OnDead         string   `split_words:"true" desc:"What a dead letter does to its key: skip (the default) or hold (the key waits until it is redriven or discarded)."`
	MaxAttempts    count    `split_words:"true" desc:"Attempts before a message becomes a dead letter. Default 20; with a schedule what it has room for, so 10 for http and https."`
	Lanes          count    `split_words:"true" desc:"Deliveries under way at once. Default: the sink's."`
	Batch          count    `split_words:"true" desc:"Most messages in one delivery. Default: the sink's."`
	Timeout        duration `split_words:"true" desc:"Timeout of one delivery. Default: the sink's."`
	BackoffInitial duration `split_words:"true" desc:"Wait before the second attempt; it doubles with each further one. Default 1s, where no schedule applies."`
	BackoffMax     duration `split_words:"true" desc:"Longest wait between attempts. Default 1h."`

	BackoffSchedule durationList `split_words:"true" desc:"Waits between attempts, separated by commas, instead of doubling ones; each varies by a fifth. Default for http and https, unless one of the two above is set: 5s,5m,30m,2h,5h,10h,14h,20h,24h, as Standard Webhooks gives it."`
	Linger          duration     `split_words:"true" desc:"How long a message waits for others to fill a batch. Default: not at all."`
	Options         object       `split_words:"true" desc:"What only this kind of sink has, as a JSON object. Secrets in it are references: env:NAME or file:/path."`

	SecretsDir   string       `split_words:"true" desc:"The directory that the files have to be in that subscriptions refer to (secrets, certificates, NATS credentials), such as /run/secrets; symbolic links do not lead out of it. Default: none can be used."`
	SecretsAllow variableList `split_words:"true" desc:"Environment variables that subscriptions may refer to, separated by commas, beside those whose names begin with POSTRIDER_SECRET_."`

	Config string `split_words:"true" desc:"YAML file of subscriptions, applied at start."`

	Follow  string `split_words:"true" default:"auto" desc:"What tells the relay of new messages: auto (stream where the server allows it, else timer), stream (logical replication), listen (LISTEN/NOTIFY) or timer."`
	Migrate bool   `split_words:"true" default:"true" desc:"Whether run brings the schema up to date first."`
	Name    string `split_words:"true" desc:"Name of this relay in status. Default: the host name."`

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

	HTTPAddr string `split_words:"true" default:"127.0.0.1:8480" desc:"Where /healthz, /readyz and /metrics are served; empty or off: nowhere."`

	CallbackURL     string        `split_words:"true" desc:"Public address under which receivers reach POSTRIDER_CALLBACK_ADDR of any relay, such as https://hooks.shop.example/postrider. With it, asynchronous webhooks carry signed callback URLs."`
	CallbackAddr    string        `split_words:"true" desc:"Where callbacks of asynchronous webhooks are received, such as 0.0.0.0:8481; empty or off: nowhere."`
	CallbackSecrets referenceList `split_words:"true" desc:"References (env:NAME or file:/path) to the secrets that sign callback URLs, separated by commas: the first signs, all verify. The same for all relays of a database; at least 32 bytes each."`

	LogLevel  slog.Level `split_words:"true" default:"info" desc:"debug, info, warn or error."`
	LogFormat string     `split_words:"true" default:"text" desc:"text or json."`
}

// Load reads the environment. The flag, if given, wins over POSTRIDER_DATABASE_URL.
func Load(databaseURL string) (*Settings, error) {
	ignoreBlankVariables()
	var s Settings
	if err := envconfig.Process(prefix, &s); err != nil {
		return nil, explainParseError(err)
	}
	if databaseURL != "" {
		s.DatabaseURL = databaseURL
	}
	if s.Name == "" {
		s.Name, _ = os.Hostname()
	}
	s.fitMemory(ContainerMemory(os.DirFS("/")))
	return &s, s.validate()
}

// ignoreBlankVariables makes a variable that is set to nothing count as not set, as Compose files and shell scripts mean it.
// Only the HTTP address has a meaning for nothing.
func ignoreBlankVariables() {
	for _, v := range Variables() {
		if value, ok := os.LookupEnv(v.Name); ok && strings.TrimSpace(value) == "" && v.Name != "POSTRIDER_HTTP_ADDR" {
			os.Unsetenv(v.Name)
		}
	}
}

func explainParseError(err error) error {
	e, ok := errors.AsType[*envconfig.ParseError](err)
	if !ok {
		return err
	}
	reason := e.Err.Error()
	switch e.TypeName {
	case "bool":
		reason = "must be true or false"
	case "slog.Level":
		reason = "must be debug, info, warn or error"
	}
	if e.FieldName == "Options" { // which may hold by mistake what nobody should see
		return fmt.Errorf("%s: %s", e.KeyName, reason)
	}
	return fmt.Errorf("%s=%s: %s", e.KeyName, e.Value, reason)
}

// validate checks what the types alone cannot. The subscription's settings are checked where it is put together.
func (s *Settings) validate() error {
	for _, v := range Variables() {
		if err := v.checkBounds(s); err != nil {
			return err
		}
	}
	if s.PollMax < s.PollMin {
		return fmt.Errorf("POSTRIDER_POLL_MAX=%s: must be at least POSTRIDER_POLL_MIN (%s)", time.Duration(s.PollMax), time.Duration(s.PollMin))
	}
	if err := oneOf("POSTRIDER_FOLLOW", s.Follow, "auto", "stream", "listen", "timer"); err != nil {
		return err
	}
	if err := s.checkSecrets(); err != nil {
		return err
	}
	if err := s.checkCallbacks(); err != nil {
		return err
	}
	return oneOf("POSTRIDER_LOG_FORMAT", s.LogFormat, "text", "json")
}

func oneOf(name, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("%s=%s: must be one of %s", name, value, strings.Join(allowed, ", "))
}

// RequireDatabase says what to do when no database is named.
func (s *Settings) RequireDatabase() error {
	if s.DatabaseURL == "" {
		return errors.New("no database: set POSTRIDER_DATABASE_URL (or --database-url) to a connection string such as postgres://user@host:5432/db")
	}
	return nil
}
