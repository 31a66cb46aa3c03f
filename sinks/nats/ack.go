package natssink

import (
	"bytes"
	"encoding/json"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const statusNoResponders = "503"

// answer reads a stream's answer to a publish. Nil says that the stream has stored the message, now or before.
func answer(m *nats.Msg) error {
	if stored(m.Data) {
		return nil
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == statusNoResponders {
		return jetstream.ErrNoStreamResponse
	}
	var a struct {
		Error *jetstream.APIError `json:"error"`
		*jetstream.PubAck
	}
	switch err := json.Unmarshal(m.Data, &a); {
	case err != nil:
		return jetstream.ErrInvalidJSAck
	case a.Error != nil:
		return a.Error
	case a.PubAck == nil || a.Stream == "":
		return jetstream.ErrInvalidJSAck
	}
	return nil
}

var (
	ackStream    = []byte(`{"stream":"`)
	ackDomain    = []byte(`","domain":"`)
	ackSequence  = []byte(`","seq":`)
	ackEnd       = []byte(`}`)
	ackDuplicate = []byte(`,"duplicate": true}`)
)

// maxDigits keeps a sequence within what json.Unmarshal takes, too.
const maxDigits = 19

// stored knows the answers that servers give to a message that they have stored, byte for byte: a fraction of the cost of
// reading JSON. False means that the answer has to be read.
func stored(b []byte) bool {
	_, _, end := cutAck(b)
	return bytes.Equal(end, ackEnd) || bytes.Equal(end, ackDuplicate)
}

// storedNow returns what the stream calls itself, and the sequence that it gave the message: zero if the answer says anything else.
func storedNow(b []byte) (stream []byte, sequence uint64) {
	stream, sequence, end := cutAck(b)
	if !bytes.Equal(end, ackEnd) {
		return nil, 0
	}
	return stream, sequence
}

// cutAck takes an answer apart: stream and domain as they are written, the sequence, and what follows, which is empty if
// the answer is not one that a stream writes.
func cutAck(b []byte) (stream []byte, sequence uint64, end []byte) {
	b, ok := bytes.CutPrefix(b, ackStream)
	if !ok {
		return nil, 0, nil
	}
	whole, name := b, plain(b)
	if name == 0 {
		return nil, 0, nil
	}
	b = b[name:]
	if rest, ok := bytes.CutPrefix(b, ackDomain); ok {
		b = rest[plain(rest):]
	}
	stream = whole[:len(whole)-len(b)]
	if b, ok = bytes.CutPrefix(b, ackSequence); !ok {
		return nil, 0, nil
	}
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		sequence = 10*sequence + uint64(b[n]-'0')
		n++
	}
	if n == 0 || n > maxDigits || n > 1 && b[0] == '0' {
		return nil, 0, nil
	}
	return stream, sequence, b[n:]
}

// plain returns how many bytes at the front of b mean themselves inside a JSON string.
func plain(b []byte) int {
	for i, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}
