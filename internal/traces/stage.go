package traces

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// Opener opens what delivers to a subscription's destination.
type Opener func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error)

// Around returns an opener whose sinks tell of each attempt. Where traces are off it returns open itself.
func (t *Traces) Around(open Opener) Opener {
	if t == nil {
		return open
	}
	return func(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
		sink, err := open(ctx, s)
		if err != nil {
			return nil, err
		}
		return sinks.Wrap(sink, sinks.Stage{Record: t.recorder(s.Sink)}), nil
	}
}

// Attributes of Postrider's own.
const (
	subscriptionKey = attribute.Key("postrider.subscription")
	sinkKey         = attribute.Key("postrider.sink") // the scheme of its URL
	attemptKey      = attribute.Key("postrider.attempt")
	outcomeKey      = attribute.Key("postrider.outcome")
)

// recorder makes spans of attempts to deliver to a sink.
func (t *Traces) recorder(sink string) func(d *sinks.Delivery, since time.Time, together int, outcome error) {
	always := append(destinationOf(sink), semconv.MessagingSystemKey.String("postrider"), semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("send"))
	return func(d *sinks.Delivery, since time.Time, together int, outcome error) {
		options := []trace.SpanStartOption{trace.WithTimestamp(since), trace.WithSpanKind(trace.SpanKindClient)}
		if of := contextOf(d.Message); of.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: of}))
		}
		_, span := t.tracer.Start(context.Background(), "send "+d.Topic, options...)
		if !span.IsRecording() {
			return
		}
		kind, _ := sinks.Classify(outcome)
		span.SetAttributes(always...)
		span.SetAttributes(semconv.MessagingDestinationName(d.Topic), semconv.MessagingMessageID(d.MessageID),
			subscriptionKey.String(d.Subscription), attemptKey.Int(d.Attempt), outcomeKey.String(kind.String()))
		if together > 1 {
			span.SetAttributes(semconv.MessagingBatchMessageCount(together))
		}
		if failed(kind) {
			span.SetAttributes(semconv.ErrorTypeKey.String(kind.String()))
			span.SetStatus(codes.Error, kind.String())
		}
		span.End()
	}
}

// failed reports whether an attempt has come to nothing. What is leased, snoozed or given back has not failed.
func failed(kind sinks.Kind) bool {
	return kind >= sinks.KindFailed
}

// destinationOf says where a sink's URL leads to, without what may be secret: its kind, and the host if there is just one.
func destinationOf(sink string) []attribute.KeyValue {
	scheme, _, _ := strings.Cut(sink, ":")
	list := []attribute.KeyValue{sinkKey.String(scheme)}
	u, err := url.Parse(sink)
	if err != nil || u.Hostname() == "" || strings.Contains(u.Host, ",") {
		return list
	}
	list = append(list, semconv.ServerAddress(u.Hostname()))
	if port, err := strconv.Atoi(u.Port()); err == nil {
		list = append(list, semconv.ServerPort(port))
	}
	return list
}

// contextOf is the context in which a message was made, as its headers tell. What is malformed counts for nothing. Names may be written in any
// case: of several that differ in nothing else the last one counts, which is the lower one, as PostgreSQL orders an object's names.
func contextOf(m *sinks.Message) trace.SpanContext {
	var headers struct{ Traceparent, Tracestate string }
	if len(m.Headers) == 0 || json.Unmarshal(m.Headers, &headers) != nil || headers.Traceparent == "" {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": headers.Traceparent, "tracestate": headers.Tracestate}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}
