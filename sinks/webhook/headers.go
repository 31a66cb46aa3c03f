package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// framing holds the headers that belong to the connection and not to the message, in lower case.
var framing = map[string]bool{
	"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "keep-alive": true,
	"proxy-connection": true, "proxy-authorization": true, "proxy-authenticate": true, "te": true, "trailer": true,
	"upgrade": true, "expect": true, "user-agent": true,
}

// isReserved says which names neither a message nor a setting may use. The name is in lower case.
func isReserved(name string) bool {
	return framing[name] || strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "postrider-") || strings.HasPrefix(name, "ce-")
}

// ownHeaders returns the message's own headers. An error means that they cannot be sent.
func (s *Sink) ownHeaders(d *sinks.Delivery) (map[string]string, error) {
	own, err := d.TextHeaders()
	if err != nil {
		return nil, err
	}
	for name := range own {
		lower := strings.ToLower(name)
		if isReserved(lower) {
			return nil, fmt.Errorf("header %q is reserved: it is set by Postrider or by HTTP itself, rename it", name)
		}
		if s.taken[lower] {
			return nil, fmt.Errorf("header %q is reserved: the subscription sets it for every request, rename it", name)
		}
	}
	return own, nil
}

// fields builds a header whose values share one array.
type fields struct {
	header http.Header
	values []string
}

func newFields(n int) *fields { return &fields{make(http.Header, n), make([]string, 0, n)} }

// set takes the name in its canonical form.
func (f *fields) set(name, value string) {
	f.values = append(f.values, value)
	n := len(f.values)
	f.header[name] = f.values[n-1 : n : n]
}

func (f *fields) encode(name, value string) { f.set(name, sinks.EncodeHeader(value)) }

// common sets what every request has, but for what belongs to the attempt (see stamp).
func (s *Sink) common(f *fields, contentType string) {
	f.header["User-Agent"] = s.userAgent
	f.set("Content-Type", contentType)
}

// messageHeaders returns the headers of a request with one message, but for those of the attempt.
func (s *Sink) messageHeaders(d *sinks.Delivery, own map[string]string, contentType string) *fields {
	f := newFields(21 + len(own) + len(s.fixed))
	for name, value := range own {
		f.set(http.CanonicalHeaderKey(name), value)
	}
	s.common(f, contentType)
	f.encode("Postrider-Topic", d.Topic)
	if d.Key != "" {
		f.encode("Postrider-Key", d.Key)
	}
	f.set("Postrider-Attempt", strconv.Itoa(d.Attempt))
	f.encode("Postrider-Subscription", d.Subscription)
	return f
}

// stamp sets the headers of the attempt, among them what references lead to now. The signature covers id and time as they
// are sent, and the body.
func (s *Sink) stamp(r *request, now time.Time) {
	for i := range s.fixed {
		r.header[s.fixed[i].name] = s.fixed[i].value(now)
	}
	if r.deferral != nil {
		r.deferral.stamp(r.fields, now, s.callback)
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	r.set("Webhook-Id", r.id)
	r.set("Webhook-Timestamp", timestamp)
	if signature := s.signers.signature(now, r.id, timestamp, r.body); signature != "" {
		r.set("Webhook-Signature", signature)
	}
}

// webhookID makes a message id fit into the header, and free of dots, since these separate the parts of what is signed.
func webhookID(id string) string {
	id = sinks.EncodeHeader(id)
	if strings.IndexByte(id, '.') >= 0 {
		id = strings.ReplaceAll(id, ".", "%2E")
	}
	return id
}
