package pubsubsink

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/sinks"
)

// What the service takes: https://cloud.google.com/pubsub/quotas#resource_limits.
const (
	mostRequestBytes  = 10_000_000
	mostMessages      = 1000
	mostAttributes    = 100
	longestName       = 256
	longestValue      = 1024
	longestOrdering   = 1024
	maxOverheadOfOne  = 16  // tag and length of a message within a request
	maxOverheadOfMany = 300 // the topic's name
)

const (
	eventPrefix = "ce-"
	ownPrefix   = "postrider-"
	contentType = "Content-Type"
)

// message renders a delivery, in the binary mode of CloudEvents. An error means that it can never be sent.
func (c *settings) message(d *sinks.Delivery) (*pubsubpb.PubsubMessage, error) {
	own, err := d.HeaderMap()
	if err != nil {
		return nil, err
	}
	source, _, _ := strings.Cut(d.MessageID, "-")
	m := &pubsubpb.PubsubMessage{Data: d.Payload, Attributes: map[string]string{
		"ce-specversion": "1.0", "ce-id": d.MessageID, "ce-source": "/postrider/" + source, "ce-type": d.Topic, "ce-time": d.CreatedAt.UTC().Format(time.RFC3339Nano),
		"postrider-subscription": d.Subscription, "postrider-attempt": strconv.Itoa(d.Attempt), contentType: "application/octet-stream",
	}}
	if d.JSON {
		m.Attributes[contentType] = "application/json"
	}
	if d.Key != "" {
		m.Attributes["postrider-key"] = sinks.EncodeHeader(d.Key)
		if len(m.Attributes["postrider-key"]) > longestValue {
			m.Attributes["postrider-key"] = hashed(d.Key)
		}
		if !c.Unordered {
			m.OrderingKey = orderingKey(d.Key)
		}
	}
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		m.Attributes["postrider-priority"] = strconv.Itoa(int(d.Priority))
	}
	if err := addOwn(m, own); err != nil {
		return nil, err
	}
	if n := proto.Size(m) + maxOverheadOfOne + maxOverheadOfMany; n > c.MaxMessageBytes {
		return nil, fmt.Errorf("it has %d bytes with its attributes: max_message_bytes is %d, and Pub/Sub takes %d", n, c.MaxMessageBytes, mostRequestBytes)
	}
	return m, nil
}

// addOwn adds the message's own headers. None is left out: what cannot be an attribute makes the message one that cannot be sent.
func addOwn(m *pubsubpb.PubsubMessage, own map[string]string) error {
	for name, value := range own {
		lower := strings.ToLower(name)
		switch {
		case lower == "content-type":
			name = contentType
		case name == "" || len(name) > longestName || !utf8.ValidString(name) || strings.HasPrefix(lower, "goog"):
			return fmt.Errorf("header %.40q cannot be an attribute: Pub/Sub takes names of 1 to %d bytes that do not begin with goog", name, longestName)
		case strings.HasPrefix(lower, eventPrefix), strings.HasPrefix(lower, ownPrefix):
			return fmt.Errorf("header %q is reserved: names that begin with ce- or postrider- are not a message's own, rename it", name)
		}
		if len(value) > longestValue || !utf8.ValidString(value) {
			return fmt.Errorf("header %.40q has a value of %d bytes: Pub/Sub takes text of at most %d", name, len(value), longestValue)
		}
		m.Attributes[name] = value
	}
	if len(m.Attributes) > mostAttributes {
		return fmt.Errorf("the message has %d headers: Pub/Sub takes %d attributes, of which ours are up to %d", len(own), mostAttributes, len(m.Attributes)-len(own))
	}
	return nil
}

func orderingKey(key string) string {
	if len(key) > longestOrdering || !utf8.ValidString(key) {
		return hashed(key)
	}
	return key
}

func hashed(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "sha256-" + hex.EncodeToString(sum[:])
}
