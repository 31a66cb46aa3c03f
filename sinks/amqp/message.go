package amqpsink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/sinks"
)

// What the names of headers begin with that are ours.
const (
	eventPrefix = "cloudEvents"
	ownPrefix   = "postrider-"
)

// checkHeader says why no message can have a header of that name.
func checkHeader(name string) error {
	switch lower := strings.ToLower(name); {
	case name == "":
		return errors.New("a header has an empty name")
	case len(name) > maxShort:
		return fmt.Errorf("header %.40q… has a name of %d bytes: AMQP takes %d", name, len(name), maxShort)
	case strings.HasPrefix(name, eventPrefix), strings.HasPrefix(lower, ownPrefix):
		return fmt.Errorf("header %q is reserved: names that begin with cloudEvents or postrider- are not a message's own, rename it", name)
	}
	return nil
}

// routingKey is that of a message.
func (c *settings) routingKey(d *sinks.Delivery) string {
	if c.Routing != "" {
		return c.Routing
	}
	return c.Prefix + d.Topic
}

// message renders a delivery. The payload is the message's own memory. An error means that it can never be sent; frame is how large a frame of
// the connection may be, zero for any size.
func (c *settings) message(d *sinks.Delivery, frame int) (key string, m amqp.Publishing, err error) {
	own, err := d.HeaderMap()
	if err != nil {
		return "", m, err
	}
	key = c.routingKey(d)
	switch {
	case int64(len(d.Payload)) > c.MaxMessageBytes:
		return "", m, fmt.Errorf("the payload has %d bytes: max_message_bytes is %d; if the server's max_message_size allows more, raise it", len(d.Payload), c.MaxMessageBytes)
	case len(key) > maxShort:
		return "", m, fmt.Errorf("the routing key %.40q… has %d bytes: AMQP takes %d", key, len(key), maxShort)
	}
	m = amqp.Publishing{
		MessageId: d.MessageID, Type: d.Topic, AppId: "postrider", Timestamp: d.CreatedAt, DeliveryMode: amqp.Persistent,
		ContentType: c.ContentType, Headers: c.ours(d), Body: d.Payload,
	}
	if m.ContentType == "" {
		m.ContentType = "application/octet-stream"
		if d.JSON {
			m.ContentType = "application/json"
		}
	}
	if c.Expiration > 0 {
		m.Expiration = strconv.FormatInt(time.Duration(c.Expiration).Milliseconds(), 10)
	}
	if err := addOwn(&m, own); err != nil {
		return "", m, err
	}
	if n := headerBytes(&m); frame > 0 && n > frame {
		return "", m, fmt.Errorf("the headers have %d bytes: the server's frame_max lets %d pass", n, frame)
	}
	return key, m, nil
}

// ours are the attributes of CloudEvents in the binary mode of its AMQP binding, what is ours beside them, and the constant ones.
func (c *settings) ours(d *sinks.Delivery) amqp.Table {
	source, _, _ := strings.Cut(d.MessageID, "-")
	h := make(amqp.Table, 12+len(c.Headers))
	for name, value := range c.Headers {
		h[name] = value
	}
	h["cloudEvents_specversion"] = "1.0"
	h["cloudEvents_id"] = d.MessageID
	h["cloudEvents_source"] = "/postrider/" + source
	h["cloudEvents_type"] = d.Topic
	h["cloudEvents_time"] = d.CreatedAt.UTC().Format(time.RFC3339Nano)
	h["postrider-subscription"] = d.Subscription
	h["postrider-attempt"] = int32(d.Attempt)
	if d.Key != "" {
		h["postrider-key"] = d.Key
	}
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		h["postrider-priority"] = int32(d.Priority)
	}
	return h
}

// addOwn adds the message's own headers, of which content-type is a property.
func addOwn(m *amqp.Publishing, own map[string]string) error {
	for name, value := range own {
		switch err := checkHeader(name); {
		case err != nil:
			return err
		case !strings.EqualFold(name, "content-type"):
			m.Headers[name] = value
		case len(value) > maxShort:
			return fmt.Errorf("header %q has %d bytes: AMQP takes %d", name, len(value), maxShort)
		default:
			m.ContentType = value
		}
	}
	return nil
}

// headerBytes is no less than the size of the frame that holds properties and headers: unlike the payload, they are never split.
func headerBytes(m *amqp.Publishing) int {
	const fixed = 64 // the frame's own bytes, flags, lengths, numbers
	n := fixed + len(m.MessageId) + len(m.Type) + len(m.AppId) + len(m.ContentType) + len(m.Expiration)
	for name, value := range m.Headers {
		n += len(name) + 6
		if text, ok := value.(string); ok {
			n += len(text)
		}
	}
	return n
}
