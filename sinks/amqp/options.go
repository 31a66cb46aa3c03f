package amqpsink

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
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
	DefaultMaxMessageBytes = 16 << 20 // max_message_size of RabbitMQ 4; older ones have 128 MiB
	DefaultLanes           = 4
	DefaultBatch           = 256
)

// mostMessageBytes is the most that RabbitMQ can be set to.
const mostMessageBytes = 512 << 20

// maxShort is how long a short string of the protocol may be, in bytes: routing keys, names of headers, media types.
const maxShort = 255

// Options are the settings of a subscription that only AMQP has. Exchange, routing or prefix may stand in the sink's URL instead.
type Options struct {
	// Exchange is what messages are published to. Default: the server's default exchange, whose routing keys are names of queues.
	Exchange string `json:"exchange,omitempty"`
	// Routing is the routing key of all messages. Without it each has Prefix and its topic.
	Routing string `json:"routing,omitempty"`
	Prefix  string `json:"prefix,omitempty"`
	// Unroutable says what becomes of a message that no queue takes: wait (default), or drop.
	Unroutable string `json:"unroutable,omitempty"`
	// Expiration is how long a queue keeps a message that nobody takes. Default: as the queue says.
	Expiration sinks.Duration `json:"expiration,omitempty"`
	// ContentType is the media type where the message does not have one of its own. Default: application/json, or application/octet-stream for bytes.
	ContentType string `json:"content_type,omitempty"`
	// Headers are added to each message that does not have them.
	Headers map[string]string `json:"headers,omitempty"`
	// MaxMessageBytes is how large a payload may be. Default: 16 MiB.
	MaxMessageBytes int64 `json:"max_message_bytes,omitempty"`

	// Mechanism is PLAIN (default), or EXTERNAL: who we are is in the client's certificate.
	Mechanism string `json:"mechanism,omitempty"`
	// User is a name, or a reference (env:NAME, file:/path) to one; Password is a reference to the password.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty" secret:"reference"`

	TLS   tlsfiles.Options `json:"tls,omitzero"`
	Guard guard.Options    `json:"guard,omitzero"`
}

// settings are a target's URL and options together.
type settings struct {
	Options
	servers []string // host:port
	vhost   string
	secure  bool
	timeout time.Duration
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

// parseURL reads amqp://host:5672,host:5672/vhost?exchange=orders.
func (c *settings) parseURL(raw string) error {
	a, err := address.Parse(raw, "amqp://host:5672/vhost?exchange=orders", map[string]string{"amqp": "5672", "amqps": "5671"})
	if err != nil {
		return err
	}
	c.servers, c.secure = a.Servers, a.Scheme == "amqps"
	if strings.Contains(a.Path, "/") {
		return fmt.Errorf("the sink's URL names the virtual host %q: a slash within a name is written %%2F", a.Path)
	}
	if c.vhost, err = url.PathUnescape(cmp.Or(a.Path, "%2F")); err != nil || len(c.vhost) > maxShort {
		return errors.New("the sink's URL names a virtual host that cannot be one")
	}
	return a.Set(address.Option{Name: "exchange", Value: &c.Exchange}, address.Option{Name: "routing", Value: &c.Routing}, address.Option{Name: "prefix", Value: &c.Prefix})
}

func (o *Options) check() error {
	_, guarded := guard.New(o.Guard)
	for _, err := range []error{o.checkRouting(), o.checkMessages(), o.checkMechanism(), o.checkReferences(), o.TLS.Check(), guarded} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) checkRouting() error {
	for name, text := range map[string]string{"exchange": o.Exchange, "routing": o.Routing, "prefix": o.Prefix} {
		if len(text) > maxShort {
			return fmt.Errorf("%s has %d bytes: must have at most %d", name, len(text), maxShort)
		}
	}
	switch {
	case o.Routing != "" && o.Prefix != "":
		return errors.New("routing and prefix: it takes one of them")
	case o.Unroutable != "" && o.Unroutable != "wait" && o.Unroutable != "drop":
		return sinks.Unknown(fmt.Errorf("unroutable is %q: must be wait or drop", o.Unroutable))
	}
	return nil
}

func (o *Options) checkMessages() error {
	life := time.Duration(o.Expiration)
	switch {
	case len(o.ContentType) > maxShort:
		return fmt.Errorf("content_type has %d bytes: must have at most %d", len(o.ContentType), maxShort)
	case life < 0 || life%time.Millisecond != 0 || life.Milliseconds() > 1<<32-1:
		return fmt.Errorf("expiration %v: must be whole milliseconds, at most 1193h", life)
	case o.MaxMessageBytes < 0 || o.MaxMessageBytes > mostMessageBytes:
		return fmt.Errorf("max_message_bytes %d: must be from 1 to %d", o.MaxMessageBytes, mostMessageBytes)
	}
	for name := range o.Headers {
		if err := checkHeader(name); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
	}
	return nil
}

func (o *Options) checkMechanism() error {
	switch {
	case o.Mechanism != "" && o.Mechanism != "PLAIN" && o.Mechanism != "EXTERNAL":
		return sinks.Unknown(fmt.Errorf("mechanism is %q: must be PLAIN or EXTERNAL", o.Mechanism))
	case o.Mechanism == "EXTERNAL" && (o.User != "" || o.Password != ""):
		return errors.New("mechanism EXTERNAL takes no user and password: the certificate in tls.cert says who we are")
	case o.Mechanism == "EXTERNAL" && o.TLS.Cert == "":
		return errors.New("mechanism EXTERNAL takes a client certificate: give tls.cert and tls.key")
	}
	return nil
}

func (o *Options) checkReferences() error {
	if (o.User == "") != (o.Password == "") {
		return errors.New("user and password: it takes both")
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
