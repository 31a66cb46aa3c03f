package pubsubsink

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/tlsfiles"
)

// Defaults of a subscription's settings.
const (
	DefaultTimeout = 10 * time.Second
	DefaultLanes   = 4
	DefaultBatch   = 100
)

// Options are the settings of a subscription that only Pub/Sub has.
type Options struct {
	// Endpoint is the URL of a regional or private endpoint, or of an emulator. Default: https://pubsub.googleapis.com.
	Endpoint string `json:"endpoint,omitempty"`
	// Unordered says that messages have no ordering key.
	Unordered bool `json:"unordered,omitempty"`
	// MaxMessageBytes is how large a message may be with its attributes. Default: 10,000,000, which is what the service takes.
	MaxMessageBytes int `json:"max_message_bytes,omitempty"`

	// Credentials is a reference to a service account's key, JSON. Default: what the process has from its surroundings.
	Credentials string `json:"credentials,omitempty" secret:"reference"`
	// InstanceMetadata says that tokens are asked of the machine's metadata service, at 169.254.169.254.
	InstanceMetadata bool `json:"instance_metadata,omitempty"`

	TLS   tlsfiles.Options `json:"tls,omitzero"`
	Guard guard.Options    `json:"guard,omitzero"`
}

// settings are a target's URL and options together.
type settings struct {
	Options
	topic   string // projects/P/topics/T
	address string // host:port
	plain   bool   // without TLS
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
	if err := c.check(); err != nil {
		return nil, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, mostRequestBytes)
	return c, nil
}

var (
	project = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	topic   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$`)
)

const urlForm = "must be as in pubsub://project/topic"

// parseURL reads pubsub://project/topic?endpoint=https://europe-west3-pubsub.googleapis.com.
func (c *settings) parseURL(raw string) error {
	rest, ok := strings.CutPrefix(raw, "pubsub://")
	if !ok || strings.ContainsAny(rest, "@#") {
		return errors.New(urlForm)
	}
	path, query, _ := strings.Cut(rest, "?")
	in, name, ok := strings.Cut(path, "/")
	switch {
	case !ok:
		return errors.New(urlForm)
	case !project.MatchString(in):
		return fmt.Errorf("has the project %.60q: must be of 6 to 30 lower-case letters, digits and -", in)
	case !topic.MatchString(name) || strings.HasPrefix(name, "goog"):
		return fmt.Errorf("has the topic %.60q: must begin with a letter and be of 3 to 255 letters, digits and -_.~+%%, and not begin with goog", name)
	}
	c.topic = "projects/" + in + "/topics/" + name
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("has a query that cannot be read")
	}
	for key, list := range values {
		switch {
		case key != "endpoint":
			return fmt.Errorf("sets %q: it may set endpoint; all else stands in the options", key)
		case len(list) > 1 || c.Endpoint != "":
			return errors.New("or the options: endpoint is given twice")
		}
		c.Endpoint = list[0]
	}
	return nil
}

func (c *settings) check() error {
	_, guarded := guard.New(c.Guard)
	for _, err := range []error{c.checkEndpoint(), c.checkCredentials(), c.TLS.Check(), guarded} {
		if err != nil {
			return err
		}
	}
	if c.MaxMessageBytes < 0 || c.MaxMessageBytes > mostRequestBytes {
		return fmt.Errorf("max_message_bytes %d: must be from 1 to %d", c.MaxMessageBytes, mostRequestBytes)
	}
	return nil
}

// bare says that a URL is of a server, and of nothing within it.
func bare(u *url.URL) bool {
	return (u.Scheme == "https" || u.Scheme == "http") && u.User == nil && u.RawQuery+u.Fragment+strings.Trim(u.Path, "/") == ""
}

func (c *settings) checkEndpoint() error {
	u, err := url.Parse(cmp.Or(c.Endpoint, "https://pubsub.googleapis.com"))
	if err != nil || !bare(u) {
		return errors.New("endpoint: must be a URL as in https://europe-west3-pubsub.googleapis.com or http://localhost:8085, without a path")
	}
	if err := sinks.CheckHost(u); err != nil {
		return fmt.Errorf("endpoint %w", err)
	}
	c.plain = u.Scheme == "http"
	c.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[bool]string{true: "80", false: "443"}[c.plain]))
	if c.plain {
		return c.checkPlain()
	}
	if c.Credentials == "" && !strings.HasSuffix(strings.ToLower(u.Hostname()), ".googleapis.com") {
		return errors.New("endpoint is not a host of Google: give credentials, for what the process itself has is sent to Google alone")
	}
	return nil
}

func (c *settings) checkPlain() error {
	if c.Credentials != "" || c.InstanceMetadata || c.TLS != (tlsfiles.Options{}) {
		return errors.New("endpoint is an http URL, as that of an emulator: no credentials go there, and no TLS; begin it with https")
	}
	return nil
}

func (c *settings) checkCredentials() error {
	if c.Credentials == "" {
		return nil
	}
	if c.InstanceMetadata {
		return errors.New("instance_metadata and credentials: it takes one of them")
	}
	_, err := secret.ParseReference("credentials", c.Credentials)
	return err
}
