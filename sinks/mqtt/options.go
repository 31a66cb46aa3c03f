package mqttsink

import (
	"cmp"
	"errors"
	"fmt"
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
	DefaultTimeout = 10 * time.Second
	DefaultLanes   = 4
	DefaultBatch   = 256
)

const (
	// maxPacket is how large MQTT lets the rest of a packet be, behind its length.
	maxPacket = 268_435_455
	// maxText is how long MQTT lets a text be, in bytes.
	maxText = 65_535
)

// Options are the settings of a subscription that only MQTT has. Topic or prefix may stand in the sink's URL instead.
type Options struct {
	// Topic is the topic name of all messages. Without it each has Prefix and its own topic, whose dots become Separator (default "/").
	Topic     string `json:"topic,omitempty"`
	Prefix    string `json:"prefix,omitempty"`
	Separator string `json:"separator,omitempty"`
	// Retain has the broker keep the last message of each topic name for who subscribes later.
	Retain bool `json:"retain,omitempty"`
	// Unmatched says what becomes of a message that nobody is subscribed to, if the broker tells: wait (default), or drop.
	Unmatched string `json:"unmatched,omitempty"`
	// Expiry is how long the broker keeps a message for who is away, in whole seconds. Default: as long as their session lasts.
	Expiry sinks.Duration `json:"expiry,omitempty"`
	// MaxPacketBytes is how large a packet may be, if the broker does not say less.
	MaxPacketBytes int `json:"max_packet_bytes,omitempty"`

	// ClientID is who we are to the broker. Default: postrider- and a random number, so that two relays never take each other's session over.
	ClientID string `json:"client_id,omitempty"`
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
	c.Separator = cmp.Or(c.Separator, "/")
	c.MaxPacketBytes = cmp.Or(c.MaxPacketBytes, maxPacket)
	c.secure = c.secure || c.TLS != tlsfiles.Options{}
	return c, nil
}

// parseURL reads mqtt://host:1883,host:1883?prefix=shop/.
func (c *settings) parseURL(raw string) error {
	const example = "mqtt://host:1883?prefix=shop/"
	a, err := address.Parse(raw, example, map[string]string{"mqtt": "1883", "mqtts": "8883"})
	if err == nil && strings.Trim(a.Path, "/") != "" {
		err = errors.New("the sink's URL must be as in " + example)
	}
	if err != nil {
		return err
	}
	c.servers, c.secure = a.Servers, a.Scheme == "mqtts"
	return a.Set(address.Option{Name: "topic", Value: &c.Topic}, address.Option{Name: "prefix", Value: &c.Prefix})
}

func (o *Options) check() error {
	_, guarded := guard.New(o.Guard)
	for _, err := range []error{o.checkTopics(), o.checkMessages(), o.checkReferences(), o.TLS.Check(), guarded} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) checkTopics() error {
	for name, text := range map[string]string{"topic": o.Topic, "prefix": o.Prefix, "separator": o.Separator} {
		if err := checkTopic(text); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	switch {
	case o.Topic != "" && (o.Prefix != "" || o.Separator != ""):
		return errors.New("topic is that of all messages: prefix and separator are for messages that each have their own")
	case o.Unmatched != "" && o.Unmatched != "wait" && o.Unmatched != "drop":
		return sinks.Unknown(fmt.Errorf("unmatched is %q: must be wait or drop", o.Unmatched))
	}
	return nil
}

func (o *Options) checkMessages() error {
	life := time.Duration(o.Expiry)
	switch {
	case life < 0 || life%time.Second != 0 || life/time.Second > 1<<32-1:
		return fmt.Errorf("expiry %v: must be whole seconds, at most 2^32", life)
	case o.MaxPacketBytes < 0 || o.MaxPacketBytes > maxPacket:
		return fmt.Errorf("max_packet_bytes %d: must be from 1 to %d", o.MaxPacketBytes, maxPacket)
	}
	if err := checkText(o.ClientID); err != nil {
		return fmt.Errorf("client_id %w", err)
	}
	return nil
}

func (o *Options) checkReferences() error {
	if o.User == "" && o.Password != "" {
		return errors.New("password is given, and no user")
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
