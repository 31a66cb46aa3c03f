package kafkasink

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/tlsfiles"
)

// Defaults of Options and of a subscription's settings.
const (
	DefaultAckTimeout      = 10 * time.Second
	DefaultMaxPending      = 4096
	DefaultMaxMessageBytes = 1_000_012 // a little less than the default of brokers
	DefaultLanes           = 4
	DefaultBatch           = 512
)

// Bounds of Options.
const (
	leastMessageBytes = 1 << 10
	mostMessageBytes  = 64 << 20
	mostPending       = 1 << 16
	leastAckTimeout   = 100 * time.Millisecond
	mostAckTimeout    = 10 * time.Minute
)

// Options are a subscription's options, JSON. What is left out has its default.
type Options struct {
	// Topic is where all messages go, unless the URL says so. Without one each goes to the topic that is called Prefix and its own topic.
	Topic  string `json:"topic,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	// ClientID is what brokers show of the connections. Default "postrider".
	ClientID string `json:"client_id,omitempty"`
	// AckTimeout bounds the wait for the acknowledgements of a batch. Default: the subscription's timeout, else 10s.
	AckTimeout sinks.Duration `json:"ack_timeout,omitempty"`
	// MaxPending bounds the messages without an acknowledgement. Default 4096.
	MaxPending int `json:"max_pending,omitempty"`
	// MaxMessageBytes is how large a message may be, with its key and headers, before compression. Default 1000012.
	MaxMessageBytes int `json:"max_message_bytes,omitempty"`
	// Compression is none (default), gzip, snappy, lz4 or zstd.
	Compression string `json:"compression,omitempty"`
	// Tombstones sends a payload that is JSON null, of a message with a key, as no value at all.
	Tombstones bool `json:"tombstones,omitempty"`

	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. User is a name, or a reference (env:NAME, file:/path) to one; Password is a reference.
	Mechanism string `json:"mechanism,omitempty"`
	User      string `json:"user,omitempty"`
	Password  string `json:"password,omitempty" secret:"reference"`

	TLS   tlsfiles.Options `json:"tls,omitzero"`
	Guard guard.Options    `json:"guard,omitzero"`
}

// codecs are what Compression may be.
var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// settings are a target's URL and options together.
type settings struct {
	Options
	brokers []string // host:port
	secure  bool     // TLS
}

// parse reads a target: its URL, and its options. What is wrong with the options is a sinks.OptionsError.
func parse(t sinks.Target) (settings, error) {
	var c settings
	if err := sinks.DecodeOptions(t.Options, &c.Options); err != nil {
		return c, err
	}
	topic, err := c.parseURL(t.URL)
	if err != nil {
		return c, err
	}
	if topic != "" && c.Topic != "" {
		return c, sinks.OptionsError{Err: errors.New("options: topic is given here and in the sink's URL: it takes one of them")}
	}
	c.Topic = cmp.Or(topic, c.Topic)
	if err := c.check(); err != nil {
		return c, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	timeout := min(max(t.Timeout, leastAckTimeout), mostAckTimeout)
	if t.Timeout == 0 {
		timeout = DefaultAckTimeout
	}
	c.AckTimeout = cmp.Or(c.AckTimeout, sinks.Duration(timeout))
	c.MaxPending = cmp.Or(c.MaxPending, DefaultMaxPending)
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, DefaultMaxMessageBytes)
	c.ClientID = cmp.Or(c.ClientID, "postrider")
	c.Compression = cmp.Or(c.Compression, "none")
	c.secure = c.secure || c.TLS != tlsfiles.Options{}
	return c, nil
}

// parseURL reads an address such as "kafka://a:9092,b:9092/orders". Its errors show no user info.
func (c *settings) parseURL(raw string) (topic string, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "kafka" && scheme != "kafkas" {
		return "", errors.New("a Kafka address begins with kafka://, or kafkas:// for TLS")
	}
	c.secure = scheme == "kafkas"
	hosts, topic, _ := strings.Cut(rest, "/")
	switch {
	case strings.Contains(rest, "@"):
		return "", errors.New("a Kafka address holds no user and password: use the options mechanism, user and password")
	case strings.ContainsAny(rest, "?#"):
		return "", errors.New("a Kafka address has nothing behind the topic: settings are options")
	}
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("kafka://" + host)
		if err == nil {
			err = sinks.CheckHost(u)
		}
		if err != nil {
			return "", fmt.Errorf("the Kafka address's broker %q: %w; it looks like kafka://host:9092,other:9092/topic", host, sinks.WithoutURL(raw, err))
		}
		if u.Port() == "" {
			return "", fmt.Errorf("the Kafka address's broker %q has no port: 9092 is the usual one", host)
		}
		c.brokers = append(c.brokers, u.Host)
	}
	if topic != "" {
		err = checkTopic(topic)
	}
	return topic, err
}

// maxTopic is what brokers take, and topicBytes what they take in it.
const (
	maxTopic   = 249
	topicBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)

// checkTopic says why no topic can be called so.
func checkTopic(topic string) error {
	i := strings.IndexFunc(topic, func(r rune) bool { return !strings.ContainsRune(topicBytes, r) })
	switch {
	case topic == "" || topic == "." || topic == "..":
		return fmt.Errorf("topic %q: Kafka has no topic of that name", topic)
	case len(topic) > maxTopic:
		return fmt.Errorf("topic %.40q… has %d bytes: Kafka takes %d", topic, len(topic), maxTopic)
	case i >= 0:
		return fmt.Errorf("topic %q holds %q: Kafka takes letters, digits, dots, - and _", topic, []rune(topic[i:])[0])
	}
	return nil
}

func (o *Options) check() error {
	_, guarded := guard.New(o.Guard)
	for _, err := range []error{o.checkTopics(), o.checkBounds(), o.TLS.Check(), guarded, o.checkUser()} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) checkTopics() error {
	if err := checkTopic(o.Prefix + "t"); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	switch {
	case o.Topic == "":
		return nil
	case o.Prefix != "":
		return errors.New("topic and prefix are both given: a prefix is for messages that each go to the topic of their own name")
	}
	return checkTopic(o.Topic)
}

func (o *Options) checkBounds() error {
	ack := time.Duration(o.AckTimeout)
	switch _, ok := codecs[cmp.Or(o.Compression, "none")]; {
	case !ok:
		return sinks.Unknown(fmt.Errorf("compression is %q: must be none, gzip, snappy, lz4 or zstd", o.Compression))
	case ack != 0 && (ack < leastAckTimeout || ack > mostAckTimeout):
		return fmt.Errorf("ack_timeout %v: must be from %v to %v", ack, leastAckTimeout, mostAckTimeout)
	case o.MaxPending < 0 || o.MaxPending > mostPending:
		return fmt.Errorf("max_pending %d: must be from 1 to %d", o.MaxPending, mostPending)
	case o.MaxMessageBytes != 0 && (o.MaxMessageBytes < leastMessageBytes || o.MaxMessageBytes > mostMessageBytes):
		return fmt.Errorf("max_message_bytes %d: must be from %d to %d", o.MaxMessageBytes, leastMessageBytes, mostMessageBytes)
	case len(o.ClientID) > 255:
		return fmt.Errorf("client_id has %d bytes: must have at most 255", len(o.ClientID))
	}
	return nil
}

func (o *Options) checkUser() error {
	switch {
	case o.Mechanism == "" && o.User == "" && o.Password == "":
		return nil
	case o.Mechanism == "" || o.User == "" || o.Password == "":
		return errors.New("mechanism, user and password: it takes all three")
	case mechanisms[o.Mechanism] == nil:
		return sinks.Unknown(fmt.Errorf("mechanism is %q: must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", o.Mechanism))
	}
	if _, err := secret.ParseReference("password", o.Password); err != nil {
		return err
	}
	if secret.IsReference(o.User) {
		_, err := secret.ParseReference("user", o.User)
		return err
	}
	return nil
}
