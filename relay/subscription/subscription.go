package subscription

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/sinks"
)

// Subscription is a named stream of the messages whose topics match, on their way to one sink.
type Subscription struct {
	Name string
	// Topics are patterns as in NATS: "orders.created", "orders.*", "orders.>".
	Topics []string
	// Sink is a URL; its scheme chooses the destination's kind.
	Sink     string
	Settings Settings
}

// Ordering says which messages of a subscription wait for one another.
type Ordering string

// The orderings.
const (
	OrderByKey  Ordering = "key"    // messages of one key, in order of insertion
	OrderNone   Ordering = "none"   // none
	OrderStrict Ordering = "strict" // all: one in flight, and a failing one stops the rest
)

// OnDead says what a dead letter does to its key.
type OnDead string

// What a dead letter may do to its key.
const (
	DeadSkips OnDead = "skip" // the key goes on
	DeadHolds OnDead = "hold" // the key waits until the dead letter is redriven or discarded
)

// Settings are a subscription's optional settings. Zero values stand for the defaults named beside them.
type Settings struct {
	Ordering       Ordering `json:"ordering,omitempty"`        // default: key
	OnDead         OnDead   `json:"on_dead,omitempty"`         // default: skip
	MaxAttempts    int      `json:"max_attempts,omitempty"`    // attempts before a message is dead; default: 20
	Lanes          int      `json:"lanes,omitempty"`           // deliveries under way at once; default: the sink's
	Batch          int      `json:"batch,omitempty"`           // most messages in one delivery; default: the sink's
	Timeout        Duration `json:"timeout,omitempty"`         // of one delivery; default: the sink's
	BackoffInitial Duration `json:"backoff_initial,omitempty"` // wait before the second attempt; default: 1s
	BackoffMax     Duration `json:"backoff_max,omitempty"`     // longest wait between attempts; default: 1h
	// BackoffSchedule holds the waits before the second attempt, the third and so on, instead of doubling ones; the last one
	// stands for all later ones. With it MaxAttempts is by default what the schedule has room for: one more than its waits.
	BackoffSchedule []Duration `json:"backoff_schedule,omitempty"`
	// Linger is how long a lane without a full batch waits for more, counted from its oldest message; default: 0, not at all.
	Linger    Duration `json:"linger,omitempty"`
	MaxParked int      `json:"max_parked,omitempty"` // retrying, held and leased messages before intake stops; default: 100000
	// MaxScheduled bounds the messages that are parked until they are due; further ones stay in the log. Default: 1000000.
	MaxScheduled int `json:"max_scheduled,omitempty"`
	// Options are what only the sink understands: a JSON object, or nil.
	Options json.RawMessage `json:"options,omitempty"`
}

// ParseSettings decodes the settings column and fills in the defaults. An unknown key is an error.
func ParseSettings(text []byte) (Settings, error) {
	s, err := DecodeSettings(text)
	if err != nil {
		return s, err
	}
	return s, s.Validate()
}

// DecodeSettings decodes the settings column as it is. An unknown key is an error.
func DecodeSettings(text []byte) (Settings, error) {
	var s Settings
	if err := strict.Unmarshal(text, &s); err != nil {
		err = fmt.Errorf("settings: %w", err) // without the text: options may hold by mistake what nobody should see
		if json.Unmarshal(text, new(Settings)) == nil {
			err = sinks.Unknown(err)
		}
		return s, err
	}
	return s, nil
}

// Equal says whether two settings mean the same as they stand; defaults are not filled in.
func (s Settings) Equal(o Settings) bool {
	return sameJSON(s.Options, o.Options) && slices.Equal(s.BackoffSchedule, o.BackoffSchedule) &&
		s.plain() == o.plain()
}

// plainSettings are the settings that == compares.
type plainSettings struct {
	ordering                                           Ordering
	onDead                                             OnDead
	maxAttempts, lanes, batch, maxParked, maxScheduled int
	timeout, backoffInitial, backoffMax, linger        Duration
}

func (s Settings) plain() plainSettings {
	return plainSettings{s.Ordering, s.OnDead, s.MaxAttempts, s.Lanes, s.Batch, s.MaxParked, s.MaxScheduled, s.Timeout, s.BackoffInitial, s.BackoffMax, s.Linger}
}

// sameJSON compares objects as values: the database keeps neither blanks nor the order of keys. None is an empty one.
func sameJSON(a, b json.RawMessage) bool {
	var values [2]any
	for i, text := range []json.RawMessage{a, b} {
		if len(text) == 0 {
			text = json.RawMessage("{}")
		}
		if json.Unmarshal(text, &values[i]) != nil {
			return bytes.Equal(a, b)
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// Validate fills in the defaults and says which setting is wrong, with its value and what would be right.
func (s *Settings) Validate() error {
	s.Ordering = cmp.Or(s.Ordering, OrderByKey)
	s.OnDead = cmp.Or(s.OnDead, DeadSkips)
	s.MaxParked = cmp.Or(s.MaxParked, 100_000)
	s.MaxScheduled = cmp.Or(s.MaxScheduled, 1_000_000)
	if len(s.BackoffSchedule) == 0 {
		s.MaxAttempts = cmp.Or(s.MaxAttempts, 20)
		s.BackoffInitial = cmp.Or(s.BackoffInitial, Duration(time.Second))
		s.BackoffMax = cmp.Or(s.BackoffMax, Duration(max(time.Hour, time.Duration(s.BackoffInitial))))
	} else {
		s.MaxAttempts = cmp.Or(s.MaxAttempts, len(s.BackoffSchedule)+1)
	}
	switch s.Ordering {
	case OrderByKey, OrderNone, OrderStrict:
	default:
		return sinks.Unknown(fmt.Errorf("ordering %q: must be key, none or strict", s.Ordering))
	}
	if s.OnDead != DeadSkips && s.OnDead != DeadHolds {
		return sinks.Unknown(fmt.Errorf("on_dead %q: must be skip or hold", s.OnDead))
	}
	for _, n := range []struct {
		name         string
		is, from, to int
	}{
		{"max_attempts", s.MaxAttempts, 1, 1_000_000},
		{"lanes", s.Lanes, 0, 4096},
		{"batch", s.Batch, 0, 10_000},
		{"max_parked", s.MaxParked, 1, 10_000_000},
		{"max_scheduled", s.MaxScheduled, 1, 100_000_000},
	} {
		if n.is < n.from || n.is > n.to {
			return fmt.Errorf("%s %d: must be from %d to %d", n.name, n.is, max(n.from, 1), n.to)
		}
	}
	if s.Timeout < 0 || s.BackoffInitial < 0 || s.BackoffMax < s.BackoffInitial {
		return fmt.Errorf("timeout %s, backoff_initial %s, backoff_max %s: none may be negative, and backoff_max not below backoff_initial",
			s.Timeout, s.BackoffInitial, s.BackoffMax)
	}
	if s.Linger < 0 || time.Duration(s.Linger) > maxLinger {
		return fmt.Errorf("linger %s: must be from 0s to %s", s.Linger, maxLinger)
	}
	if len(s.Options) > 0 && s.Options[0] != '{' {
		return errors.New("options: must be a JSON object")
	}
	return s.validateSchedule()
}

const (
	maxLinger   = 10 * time.Minute
	maxSchedule = 1000
	maxWait     = 366 * 24 * time.Hour
)

func (s *Settings) validateSchedule() error {
	if len(s.BackoffSchedule) == 0 {
		return nil
	}
	if s.BackoffInitial != 0 || s.BackoffMax != 0 {
		return fmt.Errorf("backoff_schedule %v: excludes backoff_initial and backoff_max, which double the wait each time", s.BackoffSchedule)
	}
	if len(s.BackoffSchedule) > maxSchedule {
		return fmt.Errorf("backoff_schedule of %d waits: at most %d may be given", len(s.BackoffSchedule), maxSchedule)
	}
	for _, wait := range s.BackoffSchedule {
		if wait < 0 || time.Duration(wait) > maxWait {
			return fmt.Errorf("backoff_schedule %v: each wait must be from 0s to %s", s.BackoffSchedule, maxWait)
		}
	}
	return nil
}
