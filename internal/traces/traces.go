package traces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/relay/metrics"
)

// FlushTimeout is how long the end of the process waits for spans to be sent.
const FlushTimeout = 3 * time.Second

// Traces makes spans and sends them. Its methods do nothing where it is nil.
type Traces struct {
	provider *sdk.TracerProvider
	exporter sdk.SpanExporter
	tracer   trace.Tracer
	report   *report
}

// Process is who makes spans.
type Process struct {
	Relay   string // the name of the relay
	Version string // of this build
	Log     *slog.Logger
	// Redact takes out of a text what no log may show, which is also what Config.Secrets returns: a collector may answer with it.
	Redact func(text string) string
	// Registerer is where metrics go.
	Registerer prometheus.Registerer
}

// Start makes what the configuration says, nil for nil. It connects to nothing yet. There is one in a process: the SDK tells what goes wrong
// to what is global.
func Start(ctx context.Context, c *Config, p Process) (*Traces, error) {
	if c == nil {
		return nil, nil
	}
	of, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("postrider"), semconv.ServiceVersion(p.Version), semconv.ServiceInstanceID(p.Relay)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	var exporter sdk.SpanExporter
	if c.grpc {
		exporter, err = otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(c.endpoint))
	} else {
		exporter, err = otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.endpoint))
	}
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", c.endpoint, err)
	}
	t := &Traces{exporter: exporter, report: &report{log: p.Log, redact: p.Redact, room: int64(c.room), total: metrics.CounterVec("trace_spans_total")}}
	if err := p.Registerer.Register(t.report.total); err != nil {
		return nil, fmt.Errorf("metrics of traces: %w", err)
	}
	otel.SetErrorHandler(t.report)
	otel.SetLogger(logr.FromSlogHandler(p.Log.Handler()))
	t.provider = sdk.NewTracerProvider(sdk.WithResource(of), sdk.WithSampler(c.sampler),
		sdk.WithSpanProcessor(counted{sdk.NewBatchSpanProcessor(counting{exporter, t.report}), t.report}))
	t.tracer = t.provider.Tracer("github.com/postrider/postrider", trace.WithInstrumentationVersion(p.Version), trace.WithSchemaURL(semconv.SchemaURL))
	p.Log.Info("sending traces", "to", c.endpoint)
	return t, nil
}

// Stop sends what is left, for FlushTimeout at most. No attempt ends after it.
func (t *Traces) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), FlushTimeout)
	defer cancel()
	err := t.provider.Shutdown(ctx)
	if ctx.Err() != nil {
		err = errors.Join(err, t.exporter.Shutdown(ctx)) // which cuts off the request under way
	}
	t.report.last(err)
}
