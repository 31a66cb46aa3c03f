package webhook

import (
	"maps"
	"strings"

	"github.com/postrider/postrider/sinks"
)

// Media types of CloudEvents in JSON (JSON event format 1.0.2), and of JSON lines. They go without a charset: JSON is
// always UTF-8, and there are receivers that compare the whole header.
const (
	eventType = "application/cloudevents+json"
	batchType = "application/cloudevents-batch+json"
	linesType = "application/x-ndjson"
)

// request is what one POST carries. What belongs to the attempt is added by stamp.
type request struct {
	*fields
	id   string // webhook-id
	body []byte

	deferral *deferral // nil if a 202 is like any other 2xx

	status  int // of the answer; 0 if there was none
	batch   bool
	results map[string]error // what the answer to a batch said of single events, by their ids
}

// batches says whether one request holds several events.
func (o *Options) batches() bool { return o.Format == FormatBatch || o.Format == FormatNDJSON }

// messageRequest is for the formats with one message in a request. An error means that it cannot be sent as it is.
func (s *Sink) messageRequest(d *sinks.Delivery) (*request, error) {
	own, err := s.ownHeaders(d)
	if err != nil {
		return nil, err
	}
	r := &request{id: webhookID(d.ID), deferral: s.deferrable(d)}
	if s.options.Format == FormatStructured {
		if r.body, err = s.event(d, own); err != nil {
			return nil, err
		}
		maps.DeleteFunc(own, describesPayload)
		r.fields = s.messageHeaders(d, own, eventType)
		return r, nil
	}
	a := s.attributes(d, own)
	r.body, r.fields = d.Payload, s.messageHeaders(d, own, a.contentType)
	a.setHeaders(r.fields)
	return r, nil
}

// describesPayload reports headers such as Content-Encoding, which would be wrong of a body that is an event. The event
// itself has them.
func describesPayload(name, _ string) bool {
	return len(name) >= len("content-") && strings.EqualFold(name[:len("content-")], "content-")
}
