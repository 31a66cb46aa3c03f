package sinks

import (
	"errors"
	"fmt"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// EncodeHeader makes any string fit into a header's value: each byte that is not visible ASCII (0x21 to 0x7E), and the
// percent sign, becomes %XX. Keys, topics and names go on the wire in this form, in every sink, so that one rule decodes
// them: percent-decoding as in a URL's path (a plus sign stays a plus sign). Ordinary keys are not changed by it.
func EncodeHeader(s string) string {
	n := 0
	for i := range len(s) {
		if mustEncode(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; mustEncode(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func mustEncode(c byte) bool { return c <= ' ' || c > '~' || c == '%' }

// TextHeaders is HeaderMap for destinations whose headers are lines of text, such as HTTP and NATS. It refuses what
// would be lost or changed on the way: a name that is not an HTTP token (RFC 9110, section 5.6.2), a value with a
// control character, two names that differ in case only. Blanks around a value do not survive such destinations.
func (m *Message) TextHeaders() (map[string]string, error) {
	h, err := m.HeaderMap()
	if err != nil || len(h) == 0 {
		return nil, err
	}
	seen := make(map[string]string, len(h))
	for name, value := range h {
		if err := checkHeader(name, value); err != nil {
			return nil, err
		}
		lower := strings.ToLower(name)
		if other, ok := seen[lower]; ok {
			return nil, fmt.Errorf("headers %q and %q differ in case only: the destination would take them for one", min(name, other), max(name, other))
		}
		seen[lower] = name
	}
	return h, nil
}

func checkHeader(name, value string) error {
	if name == "" {
		return errors.New("a header has an empty name")
	}
	for i := range len(name) {
		if !isTokenByte(name[i]) {
			return fmt.Errorf("header name %q holds %q: only letters, digits and !#$%%&'*+-.^_`|~ can be sent", name, rune(name[i]))
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7F {
			return fmt.Errorf("the value of header %q holds the control character %q, which cannot be sent", name, rune(c))
		}
	}
	return nil
}

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
