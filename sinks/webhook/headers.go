package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
)

// framing holds the headers that belong to the connection and not to the message, in lower case.
var framing = map[string]bool{
	"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "keep-alive": true,
	"proxy-connection": true, "proxy-authorization": true, "proxy-authenticate": true, "te": true, "trailer": true,
	"upgrade": true, "expect": true, "user-agent": true, "http2-settings": true,
	"proxy": true, // what programs that are started like CGI take for the variable HTTP_PROXY
}

// dashed returns the name for which some receivers take another one: to programs behind gateways Transfer_Encoding is the same as
// Transfer-Encoding.
func dashed(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// checkName refuses names that a message cannot have, nor another spelling of them.
func checkName(name string) error {
	alias := dashed(name)
	if isReserved(alias) {
		return fmt.Errorf("header %q is reserved: it is set by Postrider or by HTTP itself, rename it", name)
	}
	if alias == "content-type" && strings.Contains(name, "_") {
		return fmt.Errorf("header %q: receivers may take it for Content-Type, write it with a dash or rename it", name)
	}
	return nil
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
		if other := strings.ReplaceAll(name, "_", "-"); other != name {
			for its := range own {
				if its != name && strings.EqualFold(dashed(its), other) && s.options.bare() {
					return nil, fmt.Errorf("headers %q and %q: receivers may take them for one, rename one of them", min(name, its), max(name, its))
				}
			}
		}
		if err := checkName(name); err != nil {
			return nil, err
		}
		if s.taken[dashed(name)] {
			return nil, fmt.Errorf("header %q is reserved: the subscription sets it for every request, rename it", name)
		}
	}
	return own, nil
}

// field is one header of a request. Its name is canonical.
type field struct{ name, value string }

// fields are the headers of a request, each of them once.
type fields struct{ list []field }

// set takes the name in its canonical form.
func (f *fields) set(name, value string) { f.list = append(f.list, field{name, value}) }

func (f *fields) encodeField(name, value string) { f.set(name, sinks.EncodeHeader(value)) }

// header returns them as net/http takes them. It may look at them after a request has ended, so that each has its own.
func (f *fields) header(userAgent []string) http.Header {
	h, values := make(http.Header, len(f.list)+1), make([]string, len(f.list))
	for i := range f.list {
		values[i] = f.list[i].value
		h[f.list[i].name] = values[i : i+1 : i+1]
	}
	h["User-Agent"] = userAgent
	return h
}

var errLineBreak = errors.New("a header's value holds a line break")

// encode writes what goes before the body, from the start on that all requests have.
func (r *request) encode(start []byte) error {
	b := append(append(r.wire[:0], start...), "Content-Length: "...)
	b = append(strconv.AppendInt(b, int64(len(r.body)), 10), "\r\n"...)
	for i := range r.list {
		f := &r.list[i]
		if strings.IndexByte(f.value, '\n') >= 0 || strings.IndexByte(f.value, '\r') >= 0 {
			return errLineBreak
		}
		b = append(append(b, f.name...), ": "...)
		b = append(append(b, textproto.TrimString(f.value)...), "\r\n"...)
	}
	r.wire = append(b, "\r\n"...)
	return nil
}

// messageHeaders sets the headers of a request with one message that do not say what it is.
func (r *request) messageHeaders(d *sinks.Delivery, own map[string]string, contentType string) {
	for name, value := range own {
		if !isContentType(name) {
			r.set(http.CanonicalHeaderKey(name), value)
		}
	}
	r.set("Content-Type", contentType)
	r.encodeField("Postrider-Subscription", d.Subscription)
}

// describe sets those that do, where the body is the payload: each costs every receiver about a fiftieth of what it does for a
// request, so that what is so by default is not said.
func (r *request) describe(d *sinks.Delivery) {
	r.encodeField("Postrider-Topic", d.Topic)
	if d.Key != "" {
		r.encodeField("Postrider-Key", d.Key)
	}
	if tellsPriority(d) {
		r.set("Postrider-Priority", strconv.Itoa(int(d.Priority)))
	}
	if d.Attempt > 1 {
		r.set("Postrider-Attempt", strconv.Itoa(d.Attempt))
	}
}

// stamp sets the headers of the attempt, among them what references lead to now. The signature covers id and time as they
// are sent, and the body.
func (s *Sink) stamp(r *request, now time.Time) {
	for i := range s.fixed {
		r.set(s.fixed[i].name, s.fixed[i].value(now)[0])
	}
	if r.leasable != nil {
		r.leasable.stamp(&r.fields, s.callback)
	}
	r.set("Webhook-Id", r.id)
	if len(s.signers) == 0 {
		return // the time is there to be signed
	}
	timestamp := r.timestamp(now)
	r.set("Webhook-Timestamp", timestamp)
	r.set("Webhook-Signature", s.signers.Header(now, r.id, timestamp, r.body))
}

// webhookID makes a message id fit into the header, and free of dots, since these separate the parts of what is signed.
func webhookID(id string) string {
	id = sinks.EncodeHeader(id)
	if strings.IndexByte(id, '.') >= 0 {
		id = strings.ReplaceAll(id, ".", "%2E")
	}
	return id
}
