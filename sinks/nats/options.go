package natssink

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/sinks"
)

// Options are the settings of a subscription that only NATS has. Some of them may stand in the sink's URL instead, see ParseURL. The
// zero value means the defaults named beside each.
type Options struct {
	// Stream is the stream that has to take the messages. Default: whichever captures the subject.
	Stream string `json:"stream,omitempty"`
	// Prefix goes in front of each topic as it is.
	Prefix string `json:"prefix,omitempty"`
	// Core publishes to core NATS, where nobody confirms anything.
	Core bool `json:"core,omitempty"`
	// Name is what the servers show of the connection. Default "postrider".
	Name string `json:"name,omitempty"`
	// AckTimeout bounds the wait for the acknowledgements of a batch. Default: the subscription's timeout, else 5s.
	AckTimeout sinks.Duration `json:"ack_timeout,omitempty"`
	// MaxPending bounds the messages without an acknowledgement. Default 4096.
	MaxPending int `json:"max_pending,omitempty"`

	// User is a name, or a reference (env:NAME, file:/path) to one; Password is a reference to its password.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty" secret:"reference"`
	// Token is a reference to a token, NKey to the seed of a user's nkey, Creds to credentials of a user: JWT and seed.
	Token string `json:"token,omitempty" secret:"reference"`
	NKey  string `json:"nkey,omitempty" secret:"reference"`
	Creds string `json:"creds,omitempty" secret:"reference"`

	TLS   TLSOptions    `json:"tls,omitzero"`
	Guard guard.Options `json:"guard,omitzero"`
}

// TLSOptions say whom to trust and who we are. Files are PEM, and are read at each connect.
type TLSOptions struct {
	CA         string `json:"ca,omitempty"`
	Cert       string `json:"cert,omitempty"`
	Key        string `json:"key,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	// MinVersion is 1.2 (default) or 1.3.
	MinVersion string `json:"min_version,omitempty"`
}

// parse reads a target: its URL, and its options over it. What is wrong with the options is a sinks.OptionsError.
func parse(t sinks.Target) (Config, guard.Options, error) {
	var o Options
	if err := sinks.DecodeOptions(t.Options, &o); err != nil {
		return Config{}, o.Guard, err
	}
	c, err := ParseURL(t.URL)
	if err != nil {
		return Config{}, o.Guard, err
	}
	if err := o.check(); err != nil {
		return Config{}, o.Guard, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	if err := c.set(&o); err != nil {
		return Config{}, o.Guard, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return c, o.Guard, nil
}

func (o *Options) check() error {
	for name, path := range map[string]string{"tls.ca": o.TLS.CA, "tls.cert": o.TLS.Cert, "tls.key": o.TLS.Key} {
		if path != "" && !filepath.IsAbs(path) {
			return fmt.Errorf("%s is %q: must be an absolute path", name, path)
		}
	}
	switch v := o.TLS.MinVersion; {
	case v != "" && v != "1.2" && v != "1.3":
		return sinks.Unknown(fmt.Errorf("tls.min_version is %q: must be 1.2 or 1.3", v))
	case o.AckTimeout < 0:
		return fmt.Errorf("ack_timeout %v: must be above zero", time.Duration(o.AckTimeout))
	case o.MaxPending < 0:
		return fmt.Errorf("max_pending %d: must be at least 1", o.MaxPending)
	}
	_, err := guard.New(o.Guard)
	return err
}

// set puts the options into the settings that the URL has made. A setting may come from one of them.
func (c *Config) set(o *Options) error {
	creds := ""
	if c.CredsFile != "" {
		creds = "file:" + c.CredsFile
	}
	ack := time.Duration(o.AckTimeout)
	if err := errors.Join(
		once("stream", &c.Stream, o.Stream), once("prefix", &c.Prefix, o.Prefix), once("core", &c.Core, o.Core),
		once("ack_timeout", &c.AckTimeout, ack), once("max_pending", &c.MaxPending, o.MaxPending), once("creds", &creds, o.Creds),
		once("tls.ca", &c.CAFile, o.TLS.CA), once("tls.cert", &c.CertFile, o.TLS.Cert), once("tls.key", &c.KeyFile, o.TLS.Key)); err != nil {
		return err
	}
	c.Auth = Auth{User: o.User, Password: o.Password, Token: o.Token, NKey: o.NKey, Creds: creds}
	c.CredsFile = ""
	c.Name, c.ServerName, c.TLS13 = o.Name, o.TLS.ServerName, o.TLS.MinVersion == "1.3"
	return c.validate()
}

// once sets what the URL has not set.
func once[T comparable](name string, to *T, value T) error {
	var zero T
	if *to != zero && value != zero {
		return fmt.Errorf("%s is given here and in the sink's URL: it takes one of them", name)
	}
	*to = cmp.Or(*to, value)
	return nil
}
