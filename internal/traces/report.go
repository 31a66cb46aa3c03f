package traces

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	quiet    = 30 * time.Second // between two lines in the log
	longText = 300              // bytes of an error, which may have what a collector has answered
)

// report counts spans, and tells the log of those that are lost, not more often than once in a while.
type report struct {
	log    *slog.Logger
	redact func(string) string
	room   int64                  // spans that the queue and the exporter have at most
	total  *prometheus.CounterVec // by result

	mu                         sync.Mutex
	ended, sent, lost, dropped int64
	told                       int64     // of those that are lost or dropped, how many the log knows of
	next                       time.Time // when it may be told again
}

// Handle is told by the SDK of what goes wrong.
func (r *report) Handle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(err.Error())
}

// tell writes a line, unless one was written just now. The lock is held.
func (r *report) tell(why string) {
	now := time.Now()
	if now.Before(r.next) {
		return
	}
	r.next = now.Add(quiet)
	gone := r.lost + r.dropped - r.told
	r.told += gone
	r.log.Warn("traces: spans could not be sent", "spans", gone, "because", r.short(why))
}

// short is the beginning of a text, without secrets: they are taken out first, since half of one would not be recognized.
func (r *report) short(text string) string {
	text = r.redact(text)
	return text[:min(len(text), longText)]
}

// last tells, at the end, what the log does not know yet. err is why the last spans were not sent, if that is so.
func (r *report) last(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := r.ended - r.sent - r.told
	switch {
	case gone <= 0:
	case err != nil:
		r.log.Warn("traces: spans were not sent before the end", "spans", gone, "because", r.short(err.Error()))
	default:
		r.log.Warn("traces: spans were not sent", "spans", gone)
	}
}

// counted counts the spans that end.
type counted struct {
	sdk.SpanProcessor
	report *report
}

// OnEnd implements sdk.SpanProcessor.
func (c counted) OnEnd(s sdk.ReadOnlySpan) {
	c.report.mu.Lock()
	c.report.ended++
	c.report.mu.Unlock()
	c.SpanProcessor.OnEnd(s)
}

// counting counts the spans that are sent, and those that are not.
type counting struct {
	sdk.SpanExporter
	report *report
}

// ExportSpans implements sdk.SpanExporter.
func (c counting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	r := c.report
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.lost += int64(len(spans)) // the SDK tells Handle why
		r.total.WithLabelValues("lost").Add(float64(len(spans)))
	} else {
		r.sent += int64(len(spans))
		r.total.WithLabelValues("sent").Add(float64(len(spans)))
	}
	// What neither came out nor can still be inside was dropped.
	if more := r.ended - r.sent - r.lost - r.dropped - r.room; more > 0 {
		r.dropped += more
		r.total.WithLabelValues("lost").Add(float64(more))
		r.tell("the collector takes them too slowly")
	}
	return err
}
