package amazon

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider/sinks"
)

// mostOwn is how many headers may have attributes of their own: the services take ten attributes.
const mostOwn = 2

// ours are the names of the attributes that each message may have.
var ours = map[string]bool{"message_id": true, "topic": true, "created_at": true, "content_type": true, "content_encoding": true, "key": true, "priority": true, "headers": true}

// longestGroup is how long the id of a group may be.
const longestGroup = 128

// Message is a message as the services take it.
type Message struct {
	Body       string
	Attributes map[string]string // none is empty
	// Group and Deduplication are for FIFO.
	Group, Deduplication string
	// Size is what counts for the service's limits, in bytes.
	Size int
}

// Render makes it. An error means that it can never be sent.
func (o *Options) Render(d *sinks.Delivery, fifo bool) (*Message, error) {
	own, err := d.HeaderMap()
	if err != nil {
		return nil, err
	}
	m := &Message{Attributes: map[string]string{
		"message_id": d.MessageID, "topic": sinks.EncodeHeader(d.Topic), "created_at": d.CreatedAt.UTC().Format("2006-01-02T15:04:05.000000Z"), "content_type": "application/octet-stream",
	}}
	if d.JSON {
		m.Attributes["content_type"] = "application/json"
	}
	m.body(d)
	if d.Key != "" {
		m.Attributes["key"] = sinks.EncodeHeader(d.Key)
	}
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		m.Attributes["priority"] = strconv.Itoa(int(d.Priority))
	}
	if err := o.addOwn(m, own); err != nil {
		return nil, err
	}
	if fifo {
		m.Group, m.Deduplication = group(d), d.MessageID
	}
	m.Size = len(m.Body)
	for name, value := range m.Attributes {
		m.Size += len(name) + len("String") + len(value)
	}
	if m.Size > o.MaxMessageBytes {
		return nil, fmt.Errorf("it has %d bytes with its attributes: max_message_bytes is %d, and may be raised to %d if the destination is set to take that", m.Size, o.MaxMessageBytes, mostMessageBytes)
	}
	return m, nil
}

// body sets the body: JSON as it is, all else in base64.
func (m *Message) body(d *sinks.Delivery) {
	text := string(d.Payload)
	if d.JSON {
		text = noncharacters.Replace(text)
	}
	switch {
	case text == "": // the services take no empty body
		m.Body, m.Attributes["content_encoding"] = "-", "empty"
	case d.JSON && allowed(text):
		m.Body = text
	default:
		m.Body, m.Attributes["content_encoding"] = base64.StdEncoding.EncodeToString(d.Payload), "base64"
	}
}

// noncharacters writes the two characters that JSON may hold and the services refuse, in a way that means the same in JSON.
var noncharacters = strings.NewReplacer("\uFFFE", `\ufffe`, "\uFFFF", `\uffff`)

// allowed says whether the services take the text: https://www.w3.org/TR/REC-xml/#charsets.
func allowed(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
	})
}

// addOwn adds the message's own headers: all in one attribute, as JSON, and those that are asked for in one of their own as well, unless it would be empty.
func (o *Options) addOwn(m *Message, own map[string]string) error {
	if len(own) == 0 {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(own); err != nil {
		return err
	}
	m.Attributes["headers"] = noncharacters.Replace(strings.TrimSuffix(b.String(), "\n"))
	for name, value := range own {
		if strings.EqualFold(name, "content-type") && value != "" && allowed(value) {
			m.Attributes["content_type"] = value
		}
	}
	for _, name := range o.Attributes {
		switch value := own[name]; {
		case value == "":
		case !allowed(value):
			return fmt.Errorf("the header %q holds a character that an attribute cannot have: take it out of the option attributes", name)
		default:
			m.Attributes[name] = value
		}
	}
	return nil
}

// group is the id of the message's group: its key, or what stands for a key that no id can be; a message without a key is a group of its own.
func group(d *sinks.Delivery) string {
	switch {
	case d.Key == "":
		return d.MessageID
	case len(d.Key) <= longestGroup && !strings.ContainsFunc(d.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return d.Key
	}
	sum := sha256.Sum256([]byte(d.Key))
	return "sha256-" + hex.EncodeToString(sum[:])
}
