package redissink

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/address"
	"github.com/postrider/postrider/sinks/internal/tlsfiles"
)

// Defaults of options and of a subscription's settings.
const (
	DefaultTimeout         = 10 * time.Second
	DefaultMaxMessageBytes = 512 << 20 // proto-max-bulk-len
	DefaultLanes           = 2
	DefaultBatch           = 256
)

// Options are the settings of a subscription that only Redis has. Stream or prefix may stand in the sink's URL instead.
type Options struct {
	// Stream is the key of the stream that takes all messages. Without it each goes to the stream that is called Prefix and its topic.
	Stream string `json:"stream,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	// MaxLen has the server drop the oldest entries of a stream that has about so many. Default: none is dropped.
	MaxLen int64 `json:"max_len,omitempty"`
	// MaxMessageBytes is how large a message's payload may be. Default: 512 MiB, which is the server's proto-max-bulk-len.
	MaxMessageBytes int64 `json:"max_message_bytes,omitempty"`

	// User is a name, or a reference (env:NAME, file:/path) to one; Password is a reference to the password.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty" secret:"reference"`

	TLS   tlsfiles.Options `json:"tls,omitzero"`
	Guard guard.Options    `json:"guard,omitzero"`
}

// settings are a target's URL and options together.
type settings struct {
	Options
	servers  []string // host:port
	database int
	secure   bool
	timeout  time.Duration
}

// parse reads a target. What is wrong with the options is a sinks.OptionsError.
func parse(t sinks.Target) (*settings, error) {
	c := &settings{timeout: cmp.Or(t.Timeout, DefaultTimeout)}
	if err := sinks.DecodeOptions(t.Options, &c.Options); err != nil {
		return nil, err
	}
	if err := c.parseURL(t.URL); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, DefaultMaxMessageBytes)
	c.secure = c.secure || c.TLS != tlsfiles.Options{}
	return c, nil
}

// parseURL reads redis://host:6379,host:6379/0?stream=orders.
func (c *settings) parseURL(raw string) error {
	a, err := address.Parse(raw, "redis://host:6379?stream=orders", map[string]string{"redis": "6379", "rediss": "6379"})
	if err != nil {
		return err
	}
	c.servers, c.secure = a.Servers, a.Scheme == "rediss"
	if a.Path != "" {
		if c.database, err = strconv.Atoi(a.Path); err != nil || c.database < 0 {
			return fmt.Errorf("the sink's URL names the database %q: it must be a number", a.Path)
		}
	}
	return a.Set(address.Option{Name: "stream", Value: &c.Stream}, address.Option{Name: "prefix", Value: &c.Prefix})
}

func (o *Options) check() error {
	switch {
	case o.Stream != "" && o.Prefix != "":
		return errors.New("stream and prefix: it takes one of them")
	case o.MaxLen < 0:
		return fmt.Errorf("max_len %d: must be above zero", o.MaxLen)
	case o.MaxMessageBytes < 0:
		return fmt.Errorf("max_message_bytes %d: must be above zero", o.MaxMessageBytes)
	}
	if err := o.checkCredentials(); err != nil {
		return err
	}
	if err := o.TLS.Check(); err != nil {
		return err
	}
	_, err := guard.New(o.Guard)
	return err
}

func (o *Options) checkCredentials() error {
	if o.User != "" && o.Password == "" {
		return errors.New("user is given, and no password")
	}
	for setting, ref := range map[string]string{"password": o.Password, "user": o.User} {
		if ref == "" || setting == "user" && !secret.IsReference(ref) {
			continue
		}
		if _, err := secret.ParseReference(setting, ref); err != nil {
			return err
		}
	}
	return nil
}
