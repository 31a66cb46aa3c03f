package torture

import (
	"encoding/json"
	"fmt"
	"strings"
)

// txMessages is the most that one transaction may insert: message numbers are made of the transaction's and the position.
const txMessages = 1 << 20

// Message is one message as its producer made it.
type Message struct {
	// ID is the transaction's number times 2^20 plus the position in it. It never repeats, whatever became of the transaction.
	ID    int64
	Topic string
	Key   string
	// Order ascends within a key, in the order that receivers must see. It has gaps. 0 without a key.
	Order int64
	// Class is the priority, if one was given: each has an order of its own.
	Class int
	// Unique is the unique key, if there is one.
	Unique string
	// Poison marks a message that every receiver refuses.
	Poison bool
}

// String names the message so that it can be found in logs and tables.
func (m Message) String() string {
	return fmt.Sprintf("message %s (topic %s, key %q, order %d)", idString(m.ID), m.Topic, m.Key, m.Order)
}

func idString(id int64) string {
	if id < 0 { // see rowID
		return fmt.Sprintf("row %d", -id/1_000_000)
	}
	return fmt.Sprintf("%d.%d", id/txMessages, id%txMessages)
}

// line is what the message has its place in: its key, and of that its class.
func (m Message) line() string {
	if m.Class == 0 {
		return m.Key
	}
	return fmt.Sprintf("%s, priority %d", m.Key, m.Class)
}

// payload is what travels: enough to recognize the message anywhere.
type payload struct {
	ID     int64  `json:"id"`
	Order  int64  `json:"order,omitempty"`
	Poison bool   `json:"poison,omitempty"`
	Unique string `json:"unique,omitempty"`
	Pad    string `json:"pad,omitempty"`
}

// padding brings messages to about 200 bytes.
var padding = strings.Repeat("postrider ", 15)

func (m Message) payload() string {
	text, err := json.Marshal(payload{m.ID, m.Order, m.Poison, m.Unique, padding})
	if err != nil {
		panic(err) // numbers and ASCII
	}
	return string(text)
}

// parsePayload returns the id of a message that was received.
func parsePayload(body []byte) (payload, error) {
	var p payload
	err := json.Unmarshal(body, &p)
	if err == nil && p.ID == 0 {
		err = fmt.Errorf("no id in %.100q", body)
	}
	return p, err
}
