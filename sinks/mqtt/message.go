package mqttsink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/packets"

	"github.com/postrider/postrider/sinks"
)

// ownPrefix is what the names of user properties begin with that are ours.
const ownPrefix = "postrider-"

// attributes are those of CloudEvents that are ours to say, and have no prefix in MQTT.
var attributes = map[string]bool{"specversion": true, "id": true, "source": true, "type": true, "time": true, "datacontenttype": true}

// checkText says why MQTT cannot carry a text: section 1.5.4 of the standard, with what brokers may refuse.
func checkText(text string) error {
	switch {
	case len(text) > maxText:
		return fmt.Errorf("has %d bytes: MQTT takes %d", len(text), maxText)
	case !utf8.ValidString(text):
		return errors.New("is not UTF-8")
	}
	for _, r := range text {
		if r < ' ' || 0x7F <= r && r <= 0x9F || 0xFDD0 <= r && r <= 0xFDEF || r&0xFFFE == 0xFFFE {
			return fmt.Errorf("holds %q, which MQTT cannot carry", r)
		}
	}
	return nil
}

// checkTopic says why messages cannot have a topic name that holds text.
func checkTopic(text string) error {
	if i := strings.IndexAny(text, "+#"); i >= 0 {
		return fmt.Errorf("holds %q, which stands for other topics where people subscribe", text[i])
	}
	return checkText(text)
}

// topicName is that of a message.
func (c *settings) topicName(d *sinks.Delivery) (string, error) {
	name := c.Topic
	if name == "" {
		name = c.Prefix + strings.ReplaceAll(d.Topic, ".", c.Separator)
	}
	if name == "" {
		return "", errors.New("there is no topic name")
	}
	if err := checkTopic(name); err != nil {
		return "", fmt.Errorf("the topic name %.40q %w", name, err)
	}
	return name, nil
}

// packet renders a delivery. The payload is the message's own memory. An error means that it can never be sent; most is how large a packet may be.
func (c *settings) packet(d *sinks.Delivery, most int) (*packets.Publish, error) {
	own, err := d.HeaderMap()
	if err != nil {
		return nil, err
	}
	name, err := c.topicName(d)
	if err != nil {
		return nil, err
	}
	p := &packets.Publish{Topic: name, QoS: 1, Retain: c.Retain, Payload: d.Payload, Properties: &packets.Properties{ContentType: "application/octet-stream"}}
	if d.JSON {
		p.Properties.ContentType = "application/json"
	}
	if c.Expiry > 0 {
		seconds := uint32(time.Duration(c.Expiry) / time.Second)
		p.Properties.MessageExpiry = &seconds
	}
	p.Properties.User = ours(d)
	if err := addOwn(p.Properties, own); err != nil {
		return nil, err
	}
	if n := packetBytes(p); n > most {
		return nil, fmt.Errorf("the packet has %d bytes with topic and headers: the broker, or max_packet_bytes, lets %d pass", n, most)
	}
	return p, nil
}

// ours are the attributes of CloudEvents in the binary mode of its MQTT binding, and what is ours beside them.
func ours(d *sinks.Delivery) []packets.User {
	source, _, _ := strings.Cut(d.MessageID, "-")
	list := []packets.User{
		{Key: "specversion", Value: "1.0"}, {Key: "id", Value: d.MessageID}, {Key: "source", Value: "/postrider/" + source}, {Key: "type", Value: d.Topic},
		{Key: "time", Value: d.CreatedAt.UTC().Format(time.RFC3339Nano)}, {Key: "postrider-subscription", Value: d.Subscription},
		{Key: "postrider-attempt", Value: strconv.Itoa(d.Attempt)},
	}
	if d.Key != "" {
		list = append(list, packets.User{Key: "postrider-key", Value: sinks.EncodeHeader(d.Key)})
	}
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		list = append(list, packets.User{Key: "postrider-priority", Value: strconv.Itoa(int(d.Priority))})
	}
	return list
}

// addOwn adds the message's own headers, of which content-type is a property.
func addOwn(to *packets.Properties, own map[string]string) error {
	for name, value := range own {
		lower := strings.ToLower(name)
		if name == "" {
			return errors.New("a header has an empty name")
		}
		if attributes[lower] || strings.HasPrefix(lower, ownPrefix) {
			return fmt.Errorf("header %q is reserved: attributes of CloudEvents and names that begin with postrider- are not a message's own, rename it", name)
		}
		for _, text := range []string{name, value} {
			if err := checkText(text); err != nil {
				return fmt.Errorf("header %.40q %w", name, err)
			}
		}
		if lower == "content-type" {
			to.ContentType = value
			continue
		}
		to.User = append(to.User, packets.User{Key: name, Value: value})
	}
	return nil
}

// packetBytes is the size of a packet. The properties' length takes four bytes at most, and so does that of all.
func packetBytes(p *packets.Publish) int {
	return 1 + 4 + 2 + len(p.Topic) + 2 + 4 + len(p.Properties.Pack(packets.PUBLISH)) + len(p.Payload)
}
