package sqssink

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
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
	if err := c.parseURL(t.URL); err != nil {
		return nil, fmt.Errorf("the sink's URL %w", err)
	}
	if err := c.Check(); err != nil {
		return nil, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return c, nil
}

// parseURL reads sqs://orders?region=eu-central-1 or sqs:arn:aws:sqs:eu-central-1:123456789012:orders.
func (c *settings) parseURL(raw string) (err error) {
	if strings.Contains(raw, "@") {
		return errors.New("holds user info: give references to credentials as options")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Fragment != "" || u.Path != "" {
		return errors.New("must be as in sqs://orders?region=eu-central-1 or sqs:arn:aws:sqs:eu-central-1:123456789012:orders")
	}
	if err := c.parseQuery(u.RawQuery); err != nil {
		return err
	}
	if u.Opaque != "" {
		if c.queue.Region != "" {
			return errors.New("names a region beside the ARN, which has one")
		}
		c.queue, err = amazon.ParseARN("sqs", u.Opaque, longestName)
		return err
	}
	if c.queue.Name = u.Host; c.queue.Region == "" {
		return errors.New("names no region: add it, as in ?region=eu-central-1")
	}
	return c.queue.Check(longestName)
}

func (c *settings) parseQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return errors.New("has a query that cannot be read")
	}
	for key, values := range query {
		to := map[string]*string{"region": &c.queue.Region, "endpoint": &c.Endpoint}[key]
		switch {
		case to == nil:
			return fmt.Errorf("sets %q: it may set region or endpoint; all else stands in the options", key)
		case len(values) > 1 || *to != "":
			return fmt.Errorf("or the options: %s is given twice", key)
		}
		*to = values[0]
	}
	return nil
}
