package system

import (
	"bytes"
	"strconv"
)

// Payload returns JSON of PayloadBytes bytes: {"n":N,"pad":"…"}. jsonb keeps the members in this order.
func (m Message) Payload() []byte { return Payload(m.N) }

// Payload returns the payload of message n.
func Payload(n int64) []byte {
	b := make([]byte, 0, PayloadBytes)
	b = append(b, `{"n":`...)
	b = strconv.AppendInt(b, n, 10)
	b = append(b, `,"pad":"`...)
	for len(b) < PayloadBytes-2 {
		b = append(b, 'a'+byte(len(b)%26))
	}
	return append(b, `"}`...)
}

var member = []byte(`"n":`)

// Number returns N of a payload, however jsonb has spaced it and whatever it is wrapped in, or 0.
func Number(payload []byte) int64 {
	i := bytes.Index(payload, member)
	if i < 0 {
		return 0
	}
	i += len(member)
	for i < len(payload) && payload[i] == ' ' {
		i++
	}
	n := int64(0)
	for ; i < len(payload) && payload[i] >= '0' && payload[i] <= '9'; i++ {
		n = n*10 + int64(payload[i]-'0')
	}
	return n
}
