package natssink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

// maxSubject keeps the protocol's line well under the server's bound of 4096 bytes, which ends the connection.
const maxSubject = 2048

// maxTopics bounds the topics whose subjects a renderer remembers.
const maxTopics = 1000

// renderer makes NATS messages out of deliveries, one after the other in the same memory: the client library copies what
// it publishes. Its header's values are slices of one element, which it fills without touching the map.
type renderer struct {
	prefix    string
	byTopic   map[string]string   // subjects that have been checked
	confirmed map[string]struct{} // subjects of which the expected stream has stored the last message

	msg               nats.Msg
	id, key, expected []string
	priority          []string
	own               bool // the header holds more than is ours, or nothing yet
	keyed, expecting  bool // it holds key, or expected,
	bytes             bool // or says that the payload is bytes,
	prior             bool // or a priority
}

// The headers that not every message has.
const (
	keyHeader      = "Postrider-Key"
	priorityHeader = "Postrider-Priority"
	typeHeader     = "Content-Type"
)

var bytesType = []string{"application/octet-stream"}

func newRenderer(cfg *Config) renderer {
	r := renderer{
		prefix: cfg.Prefix, byTopic: map[string]string{}, confirmed: map[string]struct{}{}, msg: nats.Msg{Header: nats.Header{}},
		id: make([]string, 1), key: make([]string, 1), priority: make([]string, 1), own: true,
	}
	if cfg.Stream != "" {
		r.expected = []string{cfg.Stream}
	}
	return r
}

// message renders one delivery into memory that the next one takes over. An error means that it can never be sent. It leaves the
// expected stream out where trusting says that the answer's will be looked at and the subject's last message went there: a server reads
// through all headers of a message several times over.
func (r *renderer) message(d *sinks.Delivery, trusting bool) (*nats.Msg, error) {
	var err error
	if r.msg.Subject, err = r.subject(d.Topic); err != nil {
		return nil, err
	}
	if r.own || len(d.Headers) > 0 {
		if err := r.header(d); err != nil {
			return nil, err
		}
	} else {
		r.toggle(&r.bytes, !d.JSON, typeHeader, bytesType)
	}
	r.id[0] = d.MessageID
	r.key[0] = sinks.EncodeHeader(d.Key)
	r.toggle(&r.keyed, d.Key != "", keyHeader, r.key)
	r.prioritize(d.Priority)
	r.toggle(&r.expecting, r.expects(trusting), jetstream.ExpectedStreamHeader, r.expected)
	r.msg.Data = d.Payload
	return &r.msg, nil
}

func (r *renderer) expects(trusting bool) bool {
	if r.expected == nil || !trusting {
		return r.expected != nil
	}
	_, ok := r.confirmed[r.msg.Subject]
	return !ok
}

// toggle puts a header in or takes it out. is says whether it is there, want whether it should be.
func (r *renderer) toggle(is *bool, want bool, name string, value []string) {
	switch {
	case want == *is:
		return
	case want:
		r.msg.Header[name] = value
	default:
		delete(r.msg.Header, name)
	}
	*is = want
}

// prioritize tells a priority that is not the default; 0 is unset.
func (r *renderer) prioritize(priority int16) {
	tells := priority != 0 && priority != sinks.DefaultPriority
	if tells {
		r.priority[0] = strconv.Itoa(int(priority))
	}
	r.toggle(&r.prior, tells, priorityHeader, r.priority)
}

// rest lets go of the last message.
func (r *renderer) rest() {
	r.msg.Data, r.id[0], r.key[0] = nil, "", ""
	if r.own {
		clear(r.msg.Header)
		r.keyed, r.expecting, r.bytes, r.prior = false, false, false, false
	}
}

func (r *renderer) subject(topic string) (string, error) {
	if s, ok := r.byTopic[topic]; ok {
		return s, nil
	}
	s := strings.Join([]string{r.prefix, topic}, "") // A copy: the topic may be part of something large.
	if err := checkSubject(s); err != nil {
		return "", fmt.Errorf("subject %.200q: %w", s, err)
	}
	if len(r.byTopic) >= maxTopics {
		clear(r.byTopic)
		clear(r.confirmed)
	}
	r.byTopic[s[len(r.prefix):]] = s
	return s, nil
}

// header makes the header anew, with the message's own ones.
func (r *renderer) header(d *sinks.Delivery) error {
	h := r.msg.Header
	clear(h)
	r.own, r.keyed, r.expecting, r.bytes, r.prior = len(d.Headers) > 0, false, false, false, false
	h[jetstream.MsgIDHeader] = r.id
	r.toggle(&r.bytes, !d.JSON, typeHeader, bytesType)
	own, err := d.TextHeaders()
	if err != nil {
		return err
	}
	for name, value := range own {
		if err := checkOwn(name, d.Payload); err != nil {
			return err
		}
		if strings.EqualFold(name, typeHeader) {
			name = typeHeader
		}
		h[name] = []string{value}
	}
	return nil
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
