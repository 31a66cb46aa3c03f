package pubsubsink

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

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

// Fields of google/pubsub/v1/pubsub.proto, by number.
const (
	fieldMessages    protowire.Number = 2 // of a PublishRequest
	fieldData        protowire.Number = 1 // of a PubsubMessage
	fieldAttributes  protowire.Number = 2
	fieldOrderingKey protowire.Number = 5
	fieldName        protowire.Number = 1 // of an attribute
	fieldValue       protowire.Number = 2
)

// message is one as it is encoded, written once. A map of its attributes, which the library goes through by reflection, took ten times as long, and 72
// allocations instead of one.
type message struct {
	wire       []byte
	attributes int
}

func (m *message) add(name, value string) {
	m.attributes++
	m.wire = protowire.AppendTag(m.wire, fieldAttributes, protowire.BytesType)
	m.wire = protowire.AppendVarint(m.wire, uint64(sizeOf(len(name))+sizeOf(len(value))))
	m.text(fieldName, name)
	m.text(fieldValue, value)
}

func (m *message) text(field protowire.Number, value string) {
	m.wire = protowire.AppendString(protowire.AppendTag(m.wire, field, protowire.BytesType), value)
}

// sizeOf is the size of a field of so many bytes, whose number is less than 16.
func sizeOf(bytes int) int { return 1 + protowire.SizeBytes(bytes) }

// render writes a delivery, in the binary mode of CloudEvents. It returns its ordering key, empty for none. An error means that it can never be sent.
func (c *settings) render(m *message, d *sinks.Delivery) (ordering string, err error) {
	own, err := d.HeaderMap()
	if err != nil {
		return "", err
	}
	m.wire, m.attributes = m.wire[:0], 0
	if len(d.Payload) > 0 {
		m.wire = protowire.AppendBytes(protowire.AppendTag(m.wire, fieldData, protowire.BytesType), d.Payload)
	}
	source, _, _ := strings.Cut(d.MessageID, "-")
	m.add("ce-specversion", "1.0")
	m.add("ce-id", d.MessageID)
	m.add("ce-source", "/postrider/"+source)
	m.add("ce-type", d.Topic)
	m.add("ce-time", d.CreatedAt.UTC().Format(time.RFC3339Nano))
	m.add("postrider-subscription", d.Subscription)
	m.add("postrider-attempt", strconv.Itoa(d.Attempt))
	if d.Key != "" {
		key := sinks.EncodeHeader(d.Key)
		if len(key) > longestValue {
			key = hashed(d.Key)
		}
		m.add("postrider-key", key)
		if !c.Unordered {
			ordering = orderingKey(d.Key)
			m.text(fieldOrderingKey, ordering)
		}
	}
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		m.add("postrider-priority", strconv.Itoa(int(d.Priority)))
	}
	if err := m.addOwn(own, d.JSON); err != nil {
		return "", err
	}
	if n := len(m.wire) + maxOverheadOfOne + maxOverheadOfMany; n > c.MaxMessageBytes {
		return "", fmt.Errorf("it has %d bytes with its attributes: max_message_bytes is %d, and Pub/Sub takes %d", n, c.MaxMessageBytes, mostRequestBytes)
	}
	return ordering, nil
}

// addOwn adds the message's own headers, and its type. None is left out: what cannot be an attribute makes the message one that cannot be sent.
func (m *message) addOwn(own map[string]string, json bool) error {
	kind := "application/octet-stream"
	if json {
		kind = "application/json"
	}
	ours := m.attributes + 1
	for name, value := range own {
		lower := strings.ToLower(name)
		if err := checkOwn(name, lower, value); err != nil {
			return err
		}
		if lower == "content-type" {
			kind = value
			continue
		}
		m.add(name, value)
	}
	m.add(contentType, kind)
	if m.attributes > mostAttributes {
		return fmt.Errorf("the message has %d headers: Pub/Sub takes %d attributes, of which ours are up to %d", len(own), mostAttributes, ours)
	}
	return nil
}

// checkOwn says why a header can be no attribute.
func checkOwn(name, lower, value string) error {
	switch {
	case name == "" || len(name) > longestName || !utf8.ValidString(name) || strings.HasPrefix(lower, "goog"):
		return fmt.Errorf("header %.40q cannot be an attribute: Pub/Sub takes names of 1 to %d bytes that do not begin with goog", name, longestName)
	case strings.HasPrefix(lower, eventPrefix), strings.HasPrefix(lower, ownPrefix):
		return fmt.Errorf("header %q is reserved: names that begin with ce- or postrider- are not a message's own, rename it", name)
	case len(value) > longestValue || !utf8.ValidString(value):
		return fmt.Errorf("header %.40q has a value of %d bytes: Pub/Sub takes text of at most %d", name, len(value), longestValue)
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
