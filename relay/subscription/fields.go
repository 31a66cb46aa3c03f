package subscription

import (
	"encoding/json"
	"time"

	"github.com/postrider/postrider/relay/expression"
)

// Fields are the settings of a subscription: the one list from which the JSON of the settings column, the environment, files, help,
// documentation, comparison, validation and redaction are made. A new setting is an entry here and the member of Settings that it fills.
var Fields = []*Field{
	choice("ordering", func(s *Settings) *Ordering { return &s.Ordering },
		"key (messages of one key in order, the default), none, or strict (one message at a time).",
		OrderByKey, OrderNone, OrderStrict),
	choice("on_dead", func(s *Settings) *OnDead { return &s.OnDead },
		"What a dead letter does to its key: skip (the default) or hold (the key waits until it is redriven or discarded).",
		DeadSkips, DeadHolds),
	choice("keep_attempts", func(s *Settings) *KeepAttempts { return &s.KeepAttempts },
		"Which attempts are kept for the retention, with what came of them: failed (the default), all, or none.",
		AttemptsFailed, AttemptsAll, AttemptsNone),
	count("max_attempts", func(s *Settings) *int { return &s.MaxAttempts }, 0, 1_000_000,
		"Attempts before a message becomes a dead letter. Default 20; with a schedule what it has room for, so 10 for http and https."),
	count("lanes", func(s *Settings) *int { return &s.Lanes }, 0, 4096,
		"Deliveries under way at once. Default: the sink's."),
	count("batch", func(s *Settings) *int { return &s.Batch }, 0, 10_000,
		"Most messages in one delivery. Default: the sink's."),
	wait("timeout", func(s *Settings) *Duration { return &s.Timeout }, 0,
		"Timeout of one delivery. Default: the sink's."),
	wait("backoff_initial", func(s *Settings) *Duration { return &s.BackoffInitial }, 0,
		"Wait before the second attempt; it doubles with each further one. Default 1s, where no schedule applies."),
	wait("backoff_max", func(s *Settings) *Duration { return &s.BackoffMax }, 0,
		"Longest wait between attempts. Default 1h."),
	waits("backoff_schedule", func(s *Settings) *[]Duration { return &s.BackoffSchedule }, maxSchedule, maxWait,
		"Waits between attempts, separated by commas, instead of doubling ones; each varies by a fifth. Default for http and https, unless one of the two above is set: 5s,5m,30m,2h,5h,10h,14h,20h,24h, as Standard Webhooks gives it."),
	wait("linger", func(s *Settings) *Duration { return &s.Linger }, maxLinger,
		"How long a message waits for others to fill a batch. Default: not at all."),
	count("max_parked", func(s *Settings) *int { return &s.MaxParked }, 100_000, 10_000_000,
		"Messages that wait for a retry, for another one of their key or for a callback, at which no more are taken from the log. Default 100000."),
	count("max_scheduled", func(s *Settings) *int { return &s.MaxScheduled }, 1_000_000, 100_000_000,
		"Messages that are not due yet and wait beside the log; further ones stay in it. Default 1000000."),
	count("shards", func(s *Settings) *int { return &s.Shards }, 0, 64,
		"For sql: alone: how many workers can be at work at once, each on the keys of one shard. Fixed when the subscription is created. Default 4."),
	span("worker_ttl", func(s *Settings) *Duration { return &s.WorkerTTL }, limits{least: time.Second, most: 10 * time.Minute, standard: 15 * time.Second},
		"How long a worker of a pull: subscription may be silent before its jobs go to others. Default 15s."),
	span("attempt_timeout", func(s *Settings) *Duration { return &s.AttemptTimeout }, limits{least: time.Second, most: 7 * 24 * time.Hour, standard: 5 * time.Minute},
		"How long a worker of a pull: subscription may have a job, unless it tells of progress. Default 5m."),
	limitsOf("limits", func(s *Settings) *Limits { return &s.Limits },
		"Deliveries at once (in_flight) and in a time (rate: 100/s, 30/m or 500/h), and per: {by: key, header:NAME or cel:EXPRESSION, in_flight, rate} of each value, which take turns. Default: none."),
	inCEL("filter", func(s *Settings) *string { return &s.Filter }, expression.Filter,
		"Which of the messages whose topics match are wanted, in CEL: `payload.total > 100 && headers.region == \"eu\"`. Default: all."),
	transformOf("transform", func(s *Settings) *Transform { return &s.Transform },
		"What is delivered instead of a message, in CEL: payload (whose value becomes JSON), headers (which come to those that it has) and topic, each an expression. Default: the message as it is."),
	flag("priorities", func(s *Settings) *bool { return &s.Priorities },
		"true: messages of a lower priority number go first, and each priority advances by itself; false (the default): all go in the order of insertion. Order holds within each priority of a key. Not with ordering: strict. With sql: they cannot be turned off again."),
	object("options", func(s *Settings) *json.RawMessage { return &s.Options },
		"What only this kind of sink has, as a JSON object. Secrets in it are references: env:NAME or file:/path."),
}

const (
	maxLinger   = 10 * time.Minute
	maxSchedule = 1000
	maxWait     = 366 * 24 * time.Hour
)
