package sqssink

import (
	"cmp"
	"fmt"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon"
)

// Defaults of a subscription's settings.
const (
	DefaultTimeout = 10 * time.Second
	DefaultLanes   = 4
	DefaultBatch   = amazon.MostEntries
)

// longestName is how long the name of a queue may be, with .fifo.
const longestName = 80

// Options are the settings of a subscription that only SQS has.
type Options struct {
	amazon.Options
}

// settings are a target's URL and options together.
type settings struct {
	Options
	queue   amazon.Resource // Account may be empty: that of the credentials
	timeout time.Duration
}

// parse reads a target. What is wrong with the options is a sinks.OptionsError.
func parse(t sinks.Target) (*settings, error) {
	c := &settings{timeout: cmp.Or(t.Timeout, DefaultTimeout)}
	if err := sinks.DecodeOptions(t.Options, &c.Options); err != nil {
		return nil, err
	}
	var err error
	if c.queue, err = c.ParseURL(t.URL, "sqs", longestName); err != nil {
		return nil, fmt.Errorf("the sink's URL %w", err)
	}
	if err := c.Check(); err != nil {
		return nil, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return c, nil
}
