package subscription

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/sinks"
)

// Settings are a subscription's optional settings: Fields says what each is called and means. Zero values stand for the defaults named
// beside them.
type Settings struct {
	Ordering       Ordering // default: key
	OnDead         OnDead   // default: skip
	MaxAttempts    int      // attempts before a message is dead; default: 20
	Lanes          int      // deliveries under way at once; default: the sink's
	Batch          int      // most messages in one delivery; default: the sink's
	Timeout        Duration // of one delivery; default: the sink's
	BackoffInitial Duration // wait before the second attempt; default: 1s
	BackoffMax     Duration // longest wait between attempts; default: 1h
	// BackoffSchedule holds the waits before the second attempt, the third and so on, instead of doubling ones; the last one
	// stands for all later ones. With it MaxAttempts is by default what the schedule has room for: one more than its waits.
	BackoffSchedule []Duration
	MaxParked       int // retrying, held and leased messages before intake stops; default: 100000
	// MaxScheduled bounds the messages that are parked until they are due; further ones stay in the log. Default: 1000000.
	MaxScheduled int
	Sharing
	clocks
	Details
	// Options are what only the sink understands: a JSON object, or nil.
	Options json.RawMessage
}

// Sharing is how the work is shared out.
type Sharing struct {
	Shards int    // how many workers of sql: can be at work at once; default: 4
	Limits Limits // of deliveries at once and in a time; default: none
	// Priorities has each priority delivered by itself, the first ones first. Default: false.
	Priorities bool
}

// Expressions are in CEL: package expression says what they see of a message.
type Expressions struct {
	Filter    string    // of the messages whose topics match, which are wanted; default: all
	Transform Transform // what is delivered instead; default: the message
}

// Details are what most subscriptions leave as it is.
type Details struct {
	// Linger is how long a lane without a full batch waits for more, counted from its oldest message; default: 0, not at all.
	Linger       Duration
	KeepAttempts KeepAttempts // which attempts are kept; default: failed
	Expressions
}

// clocks say how long workers have for their jobs.
type clocks struct {
	WorkerTTL      Duration // how long a worker may be silent before its jobs go to others; default: 15s
	AttemptTimeout Duration // how long a worker may have a job without telling of progress; default: 5m
}

// DecodeSettings decodes the settings column as it is. An unknown key is an error; if that is all, it is one that a newer build may know.
func DecodeSettings(text []byte) (Settings, error) {
	var s Settings
	problems, err := strict.Members(text, Names(), func(name string, raw json.RawMessage) []strict.Problem { return Find(name).decode(&s, raw) })
	if err == nil && len(problems) == 0 {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("settings: %w", err) // without the text: options may hold by mistake what nobody should see
	}
	err = fmt.Errorf("settings: %w", problems)
	if problems.OnlyUnknown() {
		err = sinks.Unknown(err)
	}
	return s, err
}

// UnmarshalJSON reads what DecodeSettings reads.
func (s *Settings) UnmarshalJSON(text []byte) (err error) {
	*s, err = DecodeSettings(text)
	return err
}

// MarshalJSON writes what is set, in the order of Fields.
func (s Settings) MarshalJSON() ([]byte, error) {
	out := []byte("{")
	for _, f := range Fields {
		v := f.encode(&s)
		if v == nil {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(strconv.AppendQuote(out, f.Name), ':'), text...)
	}
	return append(out, '}'), nil
}

// Equal says whether two settings mean the same as they stand; defaults are not filled in.
func (s Settings) Equal(o Settings) bool {
	return !slices.ContainsFunc(Fields, func(f *Field) bool { return !f.equal(&s, &o) })
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

// WithDefaults returns the settings with the defaults filled in, but for those that are the sink's.
func (s Settings) WithDefaults() Settings {
	for _, f := range Fields {
		f.fill(&s)
	}
	if n := len(s.BackoffSchedule); n > 0 {
		s.MaxAttempts = cmp.Or(s.MaxAttempts, n+1)
		return s
	}
	s.MaxAttempts = cmp.Or(s.MaxAttempts, 20)
	s.BackoffInitial = cmp.Or(s.BackoffInitial, Duration(time.Second))
	s.BackoffMax = cmp.Or(s.BackoffMax, Duration(max(time.Hour, time.Duration(s.BackoffInitial))))
	return s
}

// Validate says which setting is wrong, with its value and what would be right. What is not set counts with its default.
func (s Settings) Validate() error {
	for _, f := range Fields {
		if err := f.check(&s); err != nil {
			return err
		}
	}
	if s.Priorities && s.Ordering == OrderStrict {
		return errors.New("priorities true: excludes ordering strict, in which each message waits for all that were inserted before it")
	}
	if len(s.BackoffSchedule) > 0 && (s.BackoffInitial != 0 || s.BackoffMax != 0) {
		return fmt.Errorf("backoff_schedule %v: excludes backoff_initial and backoff_max, which double the wait each time", s.BackoffSchedule)
	}
	if s = s.WithDefaults(); s.Timeout < 0 || s.BackoffInitial < 0 || s.BackoffMax < s.BackoffInitial {
		return fmt.Errorf("timeout %s, backoff_initial %s, backoff_max %s: none may be negative, and backoff_max not below backoff_initial",
			s.Timeout, s.BackoffInitial, s.BackoffMax)
	}
	return nil
}
