package webhook

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/webhook/internal/http1"
	"github.com/postrider/postrider/sinks/webhook/internal/transport"
)

// Media types of CloudEvents in JSON (JSON event format 1.0.2), and of JSON lines. They go without a charset: JSON is
// always UTF-8, and there are receivers that compare the whole header.
const (
	eventType = "application/cloudevents+json"
	batchType = "application/cloudevents-batch+json"
	linesType = "application/x-ndjson"
)

// maxKept bounds what a request keeps for the next one, in bytes.
const maxKept = 64 << 10

// request is what one POST carries. What belongs to the attempt is added by stamp.
type request struct {
	fields
	id      string // webhook-id
	body    []byte
	attempt int // counts from 1; 0 of a batch

	leasable *leasable // nil if a 202 is like any other 2xx

	status  int // of the answer; 0 if there was none
	batch   bool
	results map[string]error // what the answer to a batch said of single events, by their ids

	// Kept from one request to the next.
	wire    []byte // what an http1.Client writes before the body
	second  int64  // in unix time, of which
	seconds string // is the text
}

// newRequest returns an empty request. Whoever has it gives it back with free when its answer is closed.
func (s *Sink) newRequest() *request { return s.requests.Get().(*request) }

func (s *Sink) free(r *request) {
	clear(r.list)
	if cap(r.wire) > maxKept || cap(r.list) > maxKept/64 {
		r.wire, r.list = nil, nil
	}
	*r = request{fields: fields{r.list[:0]}, wire: r.wire, second: r.second, seconds: r.seconds}
	s.requests.Put(r)
}

// exchange sends the request without net/http. Ok is false if nothing was sent, since the destination wants HTTP/2.
func (r *request) exchange(ctx context.Context, p *transport.Pool, deadline time.Time) (res *http.Response, ok bool, err error) {
	if err := r.encode(p.HTTP1.Start); err != nil {
		return nil, true, p.Advise(err)
	}
	return p.Exchange(ctx, http1.Request{Head: &r.wire, Body: r.body}, deadline)
}

// timestamp returns unix seconds. Most requests have those of the one before.
func (r *request) timestamp(now time.Time) string {
	if second := now.Unix(); second != r.second || r.seconds == "" {
		r.second, r.seconds = second, strconv.FormatInt(second, 10)
	}
	return r.seconds
}

// batches says whether one request holds several events.
func (o *Options) batches() bool { return o.Format == FormatBatch || o.Format == FormatNDJSON }

// bare says whether the body of a request is a message's payload.
func (o *Options) bare() bool { return o.Format == FormatRaw || o.Format == FormatBinary }

// messageRequest is for the formats with one message in a request. An error means that it cannot be sent as it is.
func (s *Sink) messageRequest(d *sinks.Delivery) (*request, error) {
	own, err := s.ownHeaders(d)
	if err != nil {
		return nil, err
	}
	body := d.Payload
	if s.options.Format == FormatStructured {
		if body, err = s.event(d, own); err != nil {
			return nil, err
		}
	}
	r := s.newRequest()
	r.id, r.body, r.attempt, r.leasable = webhookID(d.MessageID), body, d.Attempt, s.leasable(d)
	if s.options.Format == FormatStructured {
		maps.DeleteFunc(own, describesPayload)
		r.messageHeaders(d, own, eventType)
		return r, nil
	}
	r.messageHeaders(d, own, contentType(d, own))
	r.describe(d)
	if s.options.Format == FormatBinary {
		s.attributes(d, own).setHeaders(&r.fields)
	}
	return r, nil
}

// describesPayload reports headers such as Content-Encoding, which would be wrong of a body that is an event. The event
// itself has them.
func describesPayload(name, _ string) bool {
	return len(name) >= len("content-") && strings.EqualFold(name[:len("content-")], "content-")
}
