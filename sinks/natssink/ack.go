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
	b, ok := bytes.CutPrefix(b, ackStream)
	if !ok {
		return false
	}
	name := plain(b)
	if name == 0 {
		return false
	}
	b = b[name:]
	if rest, ok := bytes.CutPrefix(b, ackDomain); ok {
		b = rest[plain(rest):]
	}
	if b, ok = bytes.CutPrefix(b, ackSequence); !ok {
		return false
	}
	n := 0
	for n < len(b) && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	if n == 0 || n > maxDigits || n > 1 && b[0] == '0' {
		return false
	}
	return bytes.Equal(b[n:], ackEnd) || bytes.Equal(b[n:], ackDuplicate)
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
