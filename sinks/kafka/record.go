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

// memory is what records are made of, several from one piece: a batch of small messages takes few allocations. A record that is left behind keeps its
// pieces, so these are small beside what it is counted for, and larger records have memory of their own.
type memory struct {
	piece   int // in bytes
	text    []byte
	headers []kgo.RecordHeader

	// What the last message had, since the next one has the same as a rule.
	topic, to     string
	source        string
	ofTopic, from []byte // the values of ce_type and ce_source
}

// newMemory makes one for records each of which is counted for so many bytes.
func newMemory(counted int64) *memory { return &memory{piece: int(min(counted/4, 8<<10))} }

// headerBytes is the size of a header without its texts.
const headerBytes = 40

// cut takes n elements off a piece, as many of which it makes at once as it is told, or gives them memory of their own.
func cut[T any](piece *[]T, n, most int) []T {
	if *piece == nil || cap(*piece)-len(*piece) < n {
		if n > most/4 {
			return make([]T, 0, n)
		}
		*piece = make([]T, 0, most)
	}
	from := len(*piece)
	*piece = (*piece)[:from+n]
	return (*piece)[from:from:len(*piece)]
}

// keep returns a copy.
func keep[T string | []byte](m *memory, text T) []byte {
	return append(cut(&m.text, len(text), m.piece), text...)
}

// render makes a record of a delivery, in memory of its own. An error means that it can never be sent.
func (c *settings) render(m *memory, d *sinks.Delivery, to *kgo.Record) error {
	if err := c.address(m, d); err != nil {
		return err
	}
	to.Topic = m.to
	own, err := d.HeaderMap()
	if err != nil {
		return err
	}
	if d.Key != "" {
		to.Key = keep(m, d.Key)
	}
	if !c.Tombstones || !d.JSON || d.Key == "" || string(d.Payload) != "null" {
		to.Value = keep(m, d.Payload) // not nil: that would be a tombstone
	}
	if err := headers(m, d, own, to); err != nil {
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

// address finds out what follows from a message's topic, and from where it comes.
func (c *settings) address(m *memory, d *sinks.Delivery) error {
	if m.to == "" || m.topic != d.Topic {
		to := c.topicOf(d)
		if err := checkTopic(to); err != nil {
			return err
		}
		m.topic, m.to, m.ofTopic = d.Topic, to, []byte(d.Topic)
	}
	if source, _, _ := strings.Cut(d.MessageID, "-"); m.from == nil || m.source != source {
		m.source, m.from = source, []byte("/postrider/"+source)
	}
	return nil
}

// topicOf is where a message goes.
func (c *settings) topicOf(d *sinks.Delivery) string {
	if c.Topic != "" {
		return c.Topic
	}
	return strings.Join([]string{c.Prefix, d.Topic}, "") // a copy: the topic may be part of something large
}

// Values that many messages have. Nobody writes to them.
var (
	version  = []byte("1.0")
	jsonType = []byte("application/json")
	byteType = []byte("application/octet-stream")
)

// usual is how many headers a message has that has none of its own.
const usual = 6

// headers are the attributes of CloudEvents in the binary mode of its Kafka binding, and the message's own headers.
func headers(m *memory, d *sinks.Delivery, own map[string]string, to *kgo.Record) error {
	n := usual + len(own)
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		n++
	}
	h := cut(&m.headers, n, m.piece/headerBytes)
	add := func(name string, value []byte) { h = append(h, kgo.RecordHeader{Key: name, Value: value}) }
	var created [len(time.RFC3339Nano)]byte
	add("ce_specversion", version)
	add("ce_id", keep(m, d.MessageID))
	add("ce_source", m.from)
	add("ce_type", m.ofTopic)
	add("ce_time", keep(m, d.CreatedAt.UTC().AppendFormat(created[:0], time.RFC3339Nano)))
	if n > usual+len(own) {
		add(priorityHeader, strconv.AppendInt(nil, int64(d.Priority), 10))
	}
	kind := byteType
	if d.JSON {
		kind = jsonType
	}
	for name, value := range own {
		switch lower := strings.ToLower(name); {
		case name == "":
			return fmt.Errorf("a header has an empty name")
		case strings.HasPrefix(lower, eventPrefix), strings.HasPrefix(lower, ownPrefix):
			return fmt.Errorf("header %q is reserved: names that begin with ce_ or postrider- are not a message's own, rename it", name)
		case lower == typeHeader:
			kind = keep(m, value)
		default:
			add(name, keep(m, value))
		}
	}
	add(typeHeader, kind)
	to.Headers = h
	return nil
}
