package natssink

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

// maxSubject keeps the protocol's line well under the server's bound of 4096 bytes, which ends the connection.
const maxSubject = 2048

// message renders one delivery. An error means that it can never be sent.
func (s *Sink) message(d *sinks.Delivery) (*nats.Msg, error) {
	subject := s.cfg.Prefix + d.Topic
	if err := checkSubject(subject); err != nil {
		return nil, fmt.Errorf("subject %.200q: %w", subject, err)
	}
	own, err := d.TextHeaders()
	if err != nil {
		return nil, err
	}
	h := make(nats.Header, 4+len(own))
	h["Content-Type"] = contentType(d.JSON)
	for name, value := range own {
		if err := checkOwn(name, d.Payload); err != nil {
			return nil, err
		}
		if strings.EqualFold(name, "Content-Type") {
			name = "Content-Type"
		}
		h[name] = []string{value}
	}
	h[jetstream.MsgIDHeader] = []string{d.ID}
	if s.expect != nil {
		h[jetstream.ExpectedStreamHeader] = s.expect
	}
	if d.Key != "" {
		h["Postrider-Key"] = []string{sinks.EncodeHeader(d.Key)}
	}
	return &nats.Msg{Subject: subject, Header: h, Data: d.Payload}, nil
}

func checkOwn(name string, payload []byte) error {
	lower := strings.ToLower(name)
	if strings.HasPrefix(lower, "nats-") || strings.HasPrefix(lower, "postrider-") {
		return fmt.Errorf("header %q is reserved: names that begin with Nats- or Postrider- are not a message's own, rename it", name)
	}
	if lower == "status" && len(payload) == 0 {
		return fmt.Errorf("header %q on an empty payload: NATS clients would take it for a status of the server, rename it", name)
	}
	return nil
}

// checkSubject says what is wrong with a subject to publish to. The server does not check, and would spread it.
func checkSubject(s string) error {
	switch {
	case len(s) > maxSubject:
		return fmt.Errorf("it has %d bytes, at most %d can be sent", len(s), maxSubject)
	case strings.HasPrefix(s, "$"), strings.HasPrefix(s, "_INBOX."):
		return errors.New("subjects that begin with $ or _INBOX. belong to NATS itself")
	}
	for token := range strings.SplitSeq(s, ".") {
		switch token {
		case "":
			return errors.New("it has an empty token")
		case "*", ">":
			return errors.New("a wildcard cannot be published to")
		}
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7F }); i >= 0 {
		return fmt.Errorf("it holds %q", s[i])
	}
	return nil
}

// Shared by all messages, which do not change them.
var (
	typeJSON  = []string{"application/json"}
	typeBytes = []string{"application/octet-stream"}
)

func contentType(json bool) []string {
	if json {
		return typeJSON
	}
	return typeBytes
}
