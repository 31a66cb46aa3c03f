package traces

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/relay/metrics"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

const (
	traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	sampled         = "00-" + traceID + "-" + spanID + "-01"
	unsampled       = "00-" + traceID + "-" + spanID + "-00"
)

// answering is a sink that answers what it is told to.
type answering struct{ outcomes []error }

func (a answering) Deliver(_ context.Context, _ []sinks.Delivery, outcomes []error) {
	copy(outcomes, a.outcomes)
}
func (answering) Limits() sinks.Limits { return sinks.Limits{Lanes: 1, Batch: 10} }
func (answering) Close() error         { return nil }

// deliver lets a sink behind traces answer, and returns the spans.
func deliver(t *testing.T, s sdk.Sampler, sink string, batch []sinks.Delivery, outcomes ...error) tracetest.SpanStubs {
	t.Helper()
	memory := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSampler(s), sdk.WithSyncer(memory))
	traces := &Traces{provider: provider, exporter: memory, tracer: provider.Tracer("test"), report: &report{log: slog.New(slog.DiscardHandler)}}
	open := traces.Around(func(context.Context, subscription.Subscription) (sinks.Sink, error) { return answering{outcomes}, nil })
	of, err := open(t.Context(), subscription.Subscription{Name: "billing", Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]error, len(batch))
	of.Deliver(t.Context(), batch, got)
	if !slices.Equal(got, outcomes) {
		t.Errorf("the outcomes became %v, want %v", got, outcomes)
	}
	return memory.GetSpans()
}

func delivery(headers map[string]string) sinks.Delivery {
	m := &sinks.Message{ID: 7, MessageID: "s-7-1", Topic: "orders.created", Key: "geheim-key", Payload: []byte(`"geheim-payload"`), JSON: true}
	if headers != nil {
		m.Headers, _ = json.Marshal(headers)
	}
	return sinks.Delivery{Message: m, Subscription: "billing", Attempt: 3}
}

func alwaysOn() sdk.Sampler { return byMessage{sdk.ParentBased(sdk.AlwaysSample())} }

// attributesOf are those of a span, as text.
func attributesOf(s tracetest.SpanStub) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

// A span says what was attempted and what came of it, and is linked to the context of the message.
func TestSpan(t *testing.T) {
	d := delivery(map[string]string{"TraceParent": sampled, "tracestate": "shop=1", "x-secret": "geheim-header"})
	began := time.Now()
	spans := deliver(t, alwaysOn(), "https://user:geheim-password@hooks.example:8443/geheim-path?token=geheim", []sinks.Delivery{d}, sinks.Unavailable(errors.New("geheim-answer"), 0))
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1", len(spans))
	}
	s := spans[0]
	want := map[string]string{
		"messaging.system": "postrider", "messaging.operation.type": "send", "messaging.operation.name": "send", "messaging.destination.name": "orders.created",
		"messaging.message.id": "s-7-1", "server.address": "hooks.example", "server.port": "8443", "error.type": "unavailable",
		"postrider.subscription": "billing", "postrider.sink": "https", "postrider.attempt": "3", "postrider.outcome": "unavailable",
	}
	got := attributesOf(s)
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("its attributes are %q", got)
	}
	if s.Name != "send orders.created" || s.SpanKind != trace.SpanKindClient || s.Status.Code != codes.Error || s.Status.Description != "unavailable" {
		t.Errorf("it is %q, %v, %+v", s.Name, s.SpanKind, s.Status)
	}
	if s.Parent.IsValid() || s.SpanContext.TraceID().String() == traceID || s.SpanContext.TraceState().Len() != 0 {
		t.Errorf("its context is %v, with the parent %v: want a trace of its own", s.SpanContext, s.Parent)
	}
	if len(s.Links) != 1 || s.Links[0].SpanContext.TraceID().String() != traceID || s.Links[0].SpanContext.SpanID().String() != spanID || s.Links[0].SpanContext.TraceState().Get("shop") != "1" {
		t.Errorf("its links are %+v", s.Links)
	}
	if s.StartTime.Before(began.Add(-time.Millisecond)) || s.EndTime.Before(s.StartTime) || s.EndTime.After(time.Now()) {
		t.Errorf("it lasts from %s to %s", s.StartTime, s.EndTime)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("geheim")) {
		t.Errorf("it shows what it must not: %s", text)
	}
}

// A span lasts from when the sink got the delivery to when it ended, though it is made at the end.
func TestSpanLasts(t *testing.T) {
	memory := tracetest.NewInMemoryExporter()
	traces := &Traces{tracer: sdk.NewTracerProvider(sdk.WithSampler(alwaysOn()), sdk.WithSyncer(memory)).Tracer("test")}
	d, since := delivery(nil), time.Now().Add(-time.Hour)
	traces.recorder("pull:")(&d, since, 1, nil)
	s := memory.GetSpans()[0]
	if !s.StartTime.Equal(since) || s.EndTime.Sub(since) < time.Hour || s.EndTime.After(time.Now()) {
		t.Errorf("it lasts from %s to %s", s.StartTime, s.EndTime)
	}
}

// Each message of a batch has a span, with how many went together; whatever a sink says, the span says the same, and only a failure is an error.
func TestSpansOfABatch(t *testing.T) {
	outcomes := []error{
		nil, sinks.Accepted([]byte("1")), sinks.Leased(time.Minute, 1), sinks.Snoozed(time.Minute), sinks.Released(), sinks.Failed(errors.New("x"), 0), sinks.Lost(errors.New("x")),
		errors.New("x"), sinks.Permanent(errors.New("x")), sinks.Unavailable(errors.New("x"), 0), sinks.Misconfigured(errors.New("x")), sinks.Gone(errors.New("x")),
	}
	var batch []sinks.Delivery
	for range outcomes {
		batch = append(batch, delivery(nil))
	}
	spans := deliver(t, alwaysOn(), "nats://a:4222,b:4222", batch, outcomes...)
	if len(spans) != len(batch) {
		t.Fatalf("%d spans, want %d", len(spans), len(batch))
	}
	for i, s := range spans {
		kind, _ := sinks.Classify(outcomes[i])
		got, status, problem := attributesOf(s), codes.Unset, ""
		if i >= 5 {
			status, problem = codes.Error, kind.String()
		}
		if got["postrider.outcome"] != kind.String() || got["error.type"] != problem || s.Status.Code != status || got["messaging.batch.message_count"] != "12" {
			t.Errorf("%v became %v with %q", outcomes[i], s.Status, got)
		}
		if _, ok := got["server.address"]; ok || len(s.Links) != 0 {
			t.Errorf("with several hosts and no context: %q, links %v", got, s.Links)
		}
	}
}

// Whether an attempt has a span is decided as if it were a part of its message's trace.
func TestSamplersGoByTheMessage(t *testing.T) {
	high := "00-ffffffffffffffffffffffffffffffff-" + spanID + "-0"
	for _, c := range []struct {
		sampler, argument, traceparent string
		want                           int
	}{
		{"", "", sampled, 1}, {"", "", unsampled, 0}, {"", "", "", 1}, {"", "", "garbage", 1},
		{"always_on", "", unsampled, 1}, {"always_off", "", sampled, 0},
		{"parentbased_always_off", "", sampled, 1}, {"parentbased_always_off", "", "", 0},
		{"parentbased_traceidratio", "0", sampled, 1}, {"parentbased_traceidratio", "0", "", 0}, {"parentbased_traceidratio", "1", unsampled, 0},
		{"traceidratio", "0.5", high + "1", 0}, {"traceidratio", "0.5", "00-0000000000000001" + "0000000000000001-" + spanID + "-00", 1},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", c.sampler)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", c.argument)
		var headers map[string]string
		if c.traceparent != "" {
			headers = map[string]string{"traceparent": c.traceparent}
		}
		batch := slices.Repeat([]sinks.Delivery{delivery(headers)}, 20) // as many as chance would not bring about
		if spans := deliver(t, chosenSampler(), "stdout:", batch, make([]error, len(batch))...); len(spans) != c.want*len(batch) {
			t.Errorf("%+v: %d spans of %d", c, len(spans), len(batch))
		}
	}
}

// Headers of any kind are no trouble: what is not valid counts for nothing.
func TestContextOf(t *testing.T) {
	for headers, want := range map[string]string{
		``: "", `{}`: "", `[1]`: "", `nonsense`: "", `{"traceparent":"00-1"}`: "", `{"tracestate":"a=1"}`: "",
		`{"traceparent":"` + sampled + `","tracestate":"nonsense"}`:            "",
		`{"traceparent":"` + sampled + `","tracestate":"a=1"}`:                 "a=1",
		`{"TRACEPARENT":"00-1","traceparent":"` + sampled + `"}`:               "",
		`{"Traceparent":"` + sampled + `","TraceState":"a=1,b=2", "x": "\ny"}`: "a=1,b=2",
	} {
		of := contextOf(&sinks.Message{Headers: []byte(headers)})
		if of.TraceState().String() != want || of.IsValid() != strings.Contains(headers, sampled) {
			t.Errorf("%s: %v with state %q", headers, of, of.TraceState())
		}
	}
}

// Off, traces cost nothing: the sink that is opened is the sink itself.
func TestOffNothingIsWrapped(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing is set":  {},
		"none":            {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "nonsense"},
		"disabled":        {"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "nonsense"},
		"set to nothing":  {"OTEL_TRACES_EXPORTER": " ", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
		"other signals":   {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1", "OTEL_SERVICE_NAME": "shop"},
		"a sampler alone": {"OTEL_TRACES_SAMPLER": "always_on"},
	} {
		t.Run(name, func(t *testing.T) {
			for n, v := range env {
				t.Setenv(n, v)
			}
			c, err := Read()
			if err != nil || c != nil || c.Secrets() != nil {
				t.Fatalf("read as %+v, %v", c, err)
			}
			off, err := Start(t.Context(), c, Process{Relay: "relay", Version: "v", Log: slog.New(slog.DiscardHandler)})
			if err != nil || off != nil {
				t.Fatalf("started as %+v, %v", off, err)
			}
			plain := &answering{}
			sink, err := off.Around(func(context.Context, subscription.Subscription) (sinks.Sink, error) { return plain, nil })(t.Context(), subscription.Subscription{})
			if err != nil || sink != sinks.Sink(plain) {
				t.Errorf("the sink is %T, %v", sink, err)
			}
			off.Stop()
		})
	}
}

// A sink that cannot be opened is none.
func TestAroundAnError(t *testing.T) {
	refusal := errors.New("no")
	sink, err := new(Traces).Around(func(context.Context, subscription.Subscription) (sinks.Sink, error) { return nil, refusal })(t.Context(), subscription.Subscription{})
	if sink != nil || err != refusal {
		t.Errorf("%v, %v", sink, err)
	}
}

// The log tells of lost spans now and then, with their number, and at the end of the rest.
func TestReport(t *testing.T) {
	var out bytes.Buffer
	hide := func(text string) string { return strings.ReplaceAll(text, "geheim", "…") }
	r := &report{log: slog.New(slog.NewTextHandler(&out, nil)), redact: hide, room: 10, total: metrics.CounterVec("trace_spans_total")}
	failing := counting{exporterOf(errors.New("no")), r}
	working := counting{exporterOf(nil), r}
	three := make([]sdk.ReadOnlySpan, 3)
	end := func(n int) { r.ended += int64(n) }
	end(6)
	for range 2 {
		r.Handle(failing.ExportSpans(t.Context(), three))
	}
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "spans=3 because=no") {
		t.Errorf("after two failures:\n%s", text)
	}
	out.Reset()
	r.next = time.Time{}
	end(20)
	if err := working.ExportSpans(t.Context(), three); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "spans=10 because") || !strings.Contains(text, "too slowly") { // 3 of before, 7 of 17 that have no room
		t.Errorf("after a drop:\n%s", text)
	}
	out.Reset()
	r.last(errors.New(strings.Repeat("x", longText-3) + "geheim" + strings.Repeat("x", 10_000)))
	if text := out.String(); !strings.Contains(text, "spans=10 ") || len(text) > 1000 || strings.Contains(text, "geh") {
		t.Errorf("at the end:\n%s", text)
	}
	for result, want := range map[string]float64{"sent": 3, "lost": 6 + 7} {
		var told dto.Metric
		if err := r.total.WithLabelValues(result).Write(&told); err != nil || told.GetCounter().GetValue() != want {
			t.Errorf("%v are %s, want %v (%v)", told.GetCounter().GetValue(), result, want, err)
		}
	}
	out.Reset()
	r.sent = r.ended
	if r.last(nil); out.Len() > 0 {
		t.Errorf("where nothing is lost:\n%s", &out)
	}
}

type exporterOfError struct{ err error }

func exporterOf(err error) sdk.SpanExporter { return exporterOfError{err} }

func (e exporterOfError) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return e.err }
func (exporterOfError) Shutdown(context.Context) error                          { return nil }

// BenchmarkRecord: what an attempt costs, beside what delivers it.
func BenchmarkRecord(b *testing.B) {
	for name, s := range map[string]sdk.Sampler{"sampled": alwaysOn(), "unsampled": byMessage{sdk.NeverSample()}} {
		b.Run(name, func(b *testing.B) {
			provider := sdk.NewTracerProvider(sdk.WithSampler(s))
			t := &Traces{tracer: provider.Tracer("bench")}
			d, record := delivery(map[string]string{"traceparent": sampled}), t.recorder("https://hooks.example/a")
			b.ReportAllocs()
			for b.Loop() {
				record(&d, time.Now(), 1, nil)
			}
		})
	}
}
