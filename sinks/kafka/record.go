package kafkasink

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/sinks"
)

// Headers, and what those begin with that are ours.
const (
	typeHeader     = "content-type"
	priorityHeader = "postrider-priority"
	eventPrefix    = "ce_"
	ownPrefix      = "postrider-"
)

// overhead is more than what a record has in a batch of one beside key, value and headers, in bytes.
const overhead = 128

// render makes a record of a delivery, in memory of its own. An error means that it can never be sent.
func (c *settings) render(d *sinks.Delivery, to *kgo.Record) error {
	to.Topic = c.topicOf(d)
	if err := checkTopic(to.Topic); err != nil {
		return err
	}
	own, err := d.HeaderMap()
	if err != nil {
		return err
	}
	memory := make(arena, 0, len(d.Key)+len(d.Payload)+len(d.MessageID)+len(d.Topic)+room)
	if d.Key != "" {
		to.Key = keep(&memory, d.Key)
	}
	if !c.Tombstones || !d.JSON || d.Key == "" || string(d.Payload) != "null" {
		to.Value = keep(&memory, d.Payload) // not nil: that would be a tombstone
	}
	if err := headers(&memory, d, own, to); err != nil {
		return err
	}
	size := overhead + len(to.Key) + len(to.Value)
	for i := range to.Headers {
		size += len(to.Headers[i].Key) + len(to.Headers[i].Value) + 2*5 // their lengths take 5 bytes at most
	}
	if size > c.MaxMessageBytes {
		return fmt.Errorf("the message has %d bytes with key and headers, and max_message_bytes is %d: if the topic's max.message.bytes allows more, raise it", size, c.MaxMessageBytes)
	}
	return nil
}

// arena is memory for the parts of a record.
type arena []byte

// room is what most messages need beside key, payload, id and topic.
const room = 64

func keep[T string | []byte](a *arena, text T) []byte {
	from := len(*a)
	*a = append(*a, text...)
	return (*a)[from:len(*a):len(*a)]
}

// topicOf is where a message goes.
func (c *settings) topicOf(d *sinks.Delivery) string {
	if c.Topic != "" {
		return c.Topic
	}
	return strings.Join([]string{c.Prefix, d.Topic}, "") // a copy: the topic may be part of something large
}

// headers are the attributes of CloudEvents in the binary mode of its Kafka binding, and the message's own headers.
func headers(memory *arena, d *sinks.Delivery, own map[string]string, to *kgo.Record) error {
	source, _, _ := strings.Cut(d.MessageID, "-")
	h := make([]kgo.RecordHeader, 0, 9+len(own))
	add := func(name, value string) { h = append(h, kgo.RecordHeader{Key: name, Value: keep(memory, value)}) }
	add("ce_specversion", "1.0")
	add("ce_id", d.MessageID)
	add("ce_source", "/postrider/"+source)
	add("ce_type", d.Topic)
	add("ce_time", d.CreatedAt.UTC().Format(time.RFC3339Nano))
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		add(priorityHeader, strconv.Itoa(int(d.Priority)))
	}
	kind := "application/octet-stream"
	if d.JSON {
		kind = "application/json"
	}
	for name, value := range own {
		switch lower := strings.ToLower(name); {
		case name == "":
			return fmt.Errorf("a header has an empty name")
		case strings.HasPrefix(lower, eventPrefix), strings.HasPrefix(lower, ownPrefix):
			return fmt.Errorf("header %q is reserved: names that begin with ce_ or postrider- are not a message's own, rename it", name)
		case lower == typeHeader:
			kind = value
		default:
			add(name, value)
		}
	}
	add(typeHeader, kind)
	to.Headers = h
	return nil
}
