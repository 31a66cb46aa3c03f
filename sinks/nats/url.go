package natssink

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// queryKeys are the settings that an address may carry.
var queryKeys = map[string]func(c *Config, value string) error{
	"stream": text(func(c *Config) *string { return &c.Stream }),
	"prefix": text(func(c *Config) *string { return &c.Prefix }),
	"creds":  text(func(c *Config) *string { return &c.CredsFile }),
	"ca":     text(func(c *Config) *string { return &c.CAFile }),
	"cert":   text(func(c *Config) *string { return &c.CertFile }),
	"key":    text(func(c *Config) *string { return &c.KeyFile }),
	"core": func(c *Config, v string) (err error) {
		if c.Core, err = strconv.ParseBool(v); err != nil {
			return fmt.Errorf("core is %q: it must be 1 or 0", v)
		}
		return nil
	},
	"ack_timeout": func(c *Config, v string) (err error) {
		if c.AckTimeout, err = time.ParseDuration(v); err != nil || c.AckTimeout <= 0 {
			return fmt.Errorf("ack_timeout is %q: it must be a duration above zero such as 5s", v)
		}
		return nil
	},
	"max_pending": func(c *Config, v string) (err error) {
		if c.MaxPending, err = strconv.Atoi(v); err != nil || c.MaxPending < 1 {
			return fmt.Errorf("max_pending is %q: it must be a number of at least 1", v)
		}
		return nil
	},
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

// ParseURL reads an address with settings, such as "nats://user:password@host:4222?stream=ORDERS&prefix=pg.&core=1".
// Several servers of one cluster are separated by commas: "nats://a:4222,b:4222". The keys are stream, prefix, core, creds,
// ca, cert, key, ack_timeout and max_pending, named like the fields of Config. Errors name the part that is wrong and
// never show user or password.
func ParseURL(raw string) (Config, error) {
	address, query, _ := strings.Cut(raw, "?")
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || scheme != "nats" && scheme != "tls" {
		return Config{}, errors.New("a NATS address begins with nats:// or tls://")
	}
	var c Config
	userinfo := ""
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		userinfo, rest = rest[:i+1], rest[i+1:]
	}
	for host := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), ",") {
		c.Servers = append(c.Servers, scheme+"://"+userinfo+host)
	}
	if err := c.setQuery(query); err != nil {
		return Config{}, err
	}
	if err := c.validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c *Config) setQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("the settings behind the question mark of the NATS address cannot be parsed: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		set, ok := queryKeys[key]
		if !ok {
			known := strings.Join(slices.Sorted(maps.Keys(queryKeys)), ", ")
			return sinks.Unknown(fmt.Errorf("the NATS address has the unknown setting %q: known are %s", key, known))
		}
		if len(values[key]) > 1 {
			return fmt.Errorf("the NATS address has the setting %q %d times", key, len(values[key]))
		}
		if err := set(c, values.Get(key)); err != nil {
			return fmt.Errorf("the NATS address is wrong: %w", err)
		}
	}
	return nil
}
