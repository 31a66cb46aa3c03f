package main

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/internal/pgtest"
)

// spans are what a collector was sent.
type spans struct {
	mu       sync.Mutex
	resource map[string]string
	list     []*otlp.Span
	raw      strings.Builder
	headers  http.Header
}

func (s *spans) take(request *collector.ExportTraceServiceRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range request.ResourceSpans {
		s.resource = attributes(of.Resource.Attributes)
		for _, scope := range of.ScopeSpans {
			s.list = append(s.list, scope.Spans...)
		}
	}
}

func attributes(list []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range list {
		m[a.Key] = a.Value.GetStringValue()
		if v, ok := a.Value.Value.(*common.AnyValue_IntValue); ok {
			m[a.Key] = fmt.Sprint(v.IntValue)
		}
	}
	return m
}

// ServeHTTP takes spans as OTLP over HTTP has them.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	text, err := io.ReadAll(body)
	request := new(collector.ExportTraceServiceRequest)
	if err == nil && r.Header.Get("Content-Type") == "application/x-protobuf" {
		err = proto.Unmarshal(text, request)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(r.Method, r.URL, err), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.headers = r.Header.Clone()
	s.raw.Write(text)
	s.mu.Unlock()
	s.take(request)
}

// takeSpans is a collector for OTLP over HTTP.
func takeSpans(t *testing.T) (*spans, string) {
	t.Helper()
	s := new(spans)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

// hookFor is a receiver that answers with what status says, and hands on the headers of each request.
func hookFor(t *testing.T, status func(n int32) int) (url string, requests <-chan http.Header) {
	t.Helper()
	got, n := make(chan http.Header, 10_000), new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := status(n.Add(1))
		got <- r.Header.Clone()
		w.WriteHeader(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/geheim-path", got
}

func next(t *testing.T, requests <-chan http.Header) http.Header {
	t.Helper()
	select {
	case h := <-requests:
		return h
	case <-time.After(patience):
		t.Fatal("nothing arrives")
		return nil
	}
}

const (
	ofTrace, ofSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	traced          = `{"traceparent": "00-` + ofTrace + `-` + ofSpan + `-01", "tracestate": "shop=1", "baggage": "tenant=7"}`
	enqueueTraced   = `SELECT postrider.enqueue('orders.created', '"geheim-payload"', key => 'geheim-key', headers => '` + traced + `')`
)

// metric reports whether the relay tells it, with a value if that is in the text.
func (p *process) metric(text string) bool {
	p.t.Helper()
	_, all := p.get("/metrics")
	return strings.Contains(all, text)
}

// stopRelay asks for a clean stop, in which deliveries under way end.
func stopRelay(t *testing.T, p *process) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		text, _ := p.out.read()
		t.Fatalf("status %d:\n%s", status, text)
	}
}

// A message that is delivered at the second attempt has two spans, each linked to its context, which the receiver gets unchanged. A relay that
// stops sends what waits.
func TestTracesOfAttempts(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	to, url := takeSpans(t)
	hook, requests := hookFor(t, func(n int32) int {
		if n == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	db.Exec(t, enqueueTraced)
	p := start(t, append(sidecar(db.URL(), hook, ">"), "POSTRIDER_BACKOFF_INITIAL=10ms", "POSTRIDER_NAME=relay-1", "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_BSP_SCHEDULE_DELAY=3600000",
		"OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20geheim-token", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test,service.name=shop-relay")...)
	p.waitFor("sending traces")
	for range 2 {
		h := next(t, requests)
		if h.Get("Traceparent") != "00-"+ofTrace+"-"+ofSpan+"-01" || h.Get("Tracestate") != "shop=1" || h.Get("Baggage") != "tenant=7" {
			t.Errorf("the receiver gets %v", h)
		}
	}
	stopRelay(t, p)
	to.mu.Lock()
	defer to.mu.Unlock()
	if len(to.list) != 2 {
		t.Fatalf("%d spans, want 2: %v", len(to.list), to.list)
	}
	if to.resource["service.name"] != "shop-relay" || to.resource["service.instance.id"] != "relay-1" || to.resource["deployment.environment.name"] != "test" || to.resource["service.version"] == "" {
		t.Errorf("the resource is %q", to.resource)
	}
	if to.headers.Get("Authorization") != "Bearer geheim-token" {
		t.Errorf("the collector gets %v", to.headers)
	}
	for i, want := range []struct{ attempt, outcome string }{{"1", "retryable"}, {"2", "accepted"}} {
		s := to.list[i]
		a := attributes(s.Attributes)
		if s.Name != "send orders.created" || s.Kind != otlp.Span_SPAN_KIND_CLIENT || a["postrider.attempt"] != want.attempt || a["postrider.subscription"] != "default" ||
			a["messaging.destination.name"] != "orders.created" || a["messaging.message.id"] == "" || a["server.address"] != "127.0.0.1" {
			t.Errorf("span %d is %v", i, s)
		}
		failed := want.outcome != "accepted"
		if (s.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR) != failed || failed && (a["error.type"] != a["postrider.outcome"] || a["error.type"] == "accepted") || !failed && a["postrider.outcome"] != "accepted" {
			t.Errorf("span %d says %v, %q", i, s.Status, a)
		}
		if len(s.ParentSpanId) != 0 || hex.EncodeToString(s.TraceId) == ofTrace || len(s.Links) != 1 || hex.EncodeToString(s.Links[0].TraceId) != ofTrace ||
			hex.EncodeToString(s.Links[0].SpanId) != ofSpan || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("span %d belongs to %x and is linked to %v", i, s.TraceId, s.Links)
		}
	}
	if text, _ := p.out.read(); strings.Contains(to.raw.String(), "geheim") || strings.Contains(text, "geheim-token") {
		t.Errorf("something shows that must not: %q\n%s", to.raw.String(), text)
	}
}

// grpcSpans is a collector for OTLP over gRPC.
type grpcSpans struct {
	collector.UnimplementedTraceServiceServer
	*spans
}

func (g grpcSpans) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	g.take(request)
	return new(collector.ExportTraceServiceResponse), nil
}

// statementOfPage is the SQL of docs/traces.md.
func statementOfPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/traces.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```sql\n")
	statement, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/traces.md has no SQL")
	}
	return statement
}

// Spans go over each protocol that may be chosen.
func TestTracesOverOtherProtocols(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http/json"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			to, url := takeSpans(t)
			if protocol == "grpc" {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				server := grpc.NewServer()
				collector.RegisterTraceServiceServer(server, grpcSpans{spans: to})
				go server.Serve(l)
				t.Cleanup(server.Stop)
				url = "http://" + l.Addr().String()
			}
			db := newDB(t)
			hook, requests := hookFor(t, func(int32) int { return http.StatusOK })
			db.Exec(t, statementOfPage(t))
			p := start(t, append(sidecar(db.URL(), hook, ">"), "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol, "OTEL_BSP_SCHEDULE_DELAY=10")...)
			next(t, requests)
			eventually(t, "a span is sent", func() bool { return p.metric(`postrider_trace_spans_total{result="sent"} 1`) })
			stopRelay(t, p)
			to.mu.Lock()
			defer to.mu.Unlock()
			if protocol == "grpc" && len(to.list) != 1 {
				t.Errorf("%d spans, want 1", len(to.list))
			}
			if protocol != "grpc" && (to.headers.Get("Content-Type") != "application/json" || !strings.Contains(strings.ToLower(to.raw.String()), ofTrace)) {
				t.Errorf("the collector gets %v with %s", to.headers, to.raw.String())
			}
		})
	}
}

// silent is the address of whoever takes connections and says nothing.
func silent(t *testing.T) (url string, connections *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return "http://" + l.Addr().String(), connections
}

// A collector that is down, slow or hostile delays no delivery, and a stop by a bounded time; nothing waits for it without an end.
func TestTracesDelayNothing(t *testing.T) {
	t.Parallel()
	const messages = 1000 // ten times as many as have room
	down := func(t *testing.T) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String()
	}
	hostile := func(t *testing.T) string {
		var n atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				http.Error(w, "who is "+r.Header.Get("Authorization"), http.StatusTeapot)
				return
			}
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusServiceUnavailable)
			for range 1000 {
				if _, err := io.WriteString(w, strings.Repeat(r.Header.Get("Authorization")+"\n", 1000)); err != nil {
					return
				}
			}
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	mute := func(t *testing.T) string {
		url, _ := silent(t)
		return url
	}
	for _, c := range []struct {
		name, protocol string
		url            func(t *testing.T) string
	}{{"down", "http/protobuf", down}, {"silent", "http/protobuf", mute}, {"hostile", "http/protobuf", hostile}, {"silent", "grpc", mute}} {
		t.Run(c.name+" "+c.protocol, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			hook, requests := hookFor(t, func(int32) int { return http.StatusOK })
			db.Exec(t, fmt.Sprintf(`INSERT INTO postrider.outbox (topic, payload, headers) SELECT 'orders.created', '1', '%s' FROM generate_series(1, %d)`, traced, messages))
			p := start(t, append(sidecar(db.URL(), hook, ">"), "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url(t), "OTEL_EXPORTER_OTLP_PROTOCOL="+c.protocol, "OTEL_BSP_MAX_QUEUE_SIZE=50", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=25",
				"OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20geheim-token",
				"OTEL_EXPORTER_OTLP_TIMEOUT=3600000", "OTEL_BSP_EXPORT_TIMEOUT=3600000")...)
			for range messages {
				next(t, requests)
			}
			if c.name == "hostile" {
				eventually(t, "spans are lost", func() bool { return p.metric(`postrider_trace_spans_total{result="lost"}`) })
			}
			stopRelay(t, p)
			text, _ := p.out.read()
			if !strings.Contains(text, "spans were not sent") && !strings.Contains(text, "spans could not be sent") {
				t.Errorf("the log tells of no lost spans:\n%s", text)
			}
			if c.name == "hostile" && !strings.Contains(text, "who is ") {
				t.Errorf("the log does not tell what the collector answers:\n%s", text)
			}
			if strings.Contains(text, "geheim-token") || len(text) > 100_000 || strings.Count(text, "traces:") > 10 {
				t.Errorf("the log is too long, or shows a secret:\n%.2000s", text)
			}
		})
	}
}

// Off, nothing connects to a collector, whatever else is set.
func TestTracesAreOff(t *testing.T) {
	t.Parallel()
	for _, off := range []string{"OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"} {
		t.Run(off, func(t *testing.T) {
			t.Parallel()
			db := newDB(t)
			url, connections := silent(t)
			hook, requests := hookFor(t, func(int32) int { return http.StatusOK })
			db.Exec(t, enqueueTraced)
			p := start(t, append(sidecar(db.URL(), hook, ">"), "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_BSP_SCHEDULE_DELAY=1", off)...)
			next(t, requests)
			stopRelay(t, p)
			if text, _ := p.out.read(); connections.Load() != 0 || strings.Contains(text, "traces") {
				t.Errorf("%d connections:\n%s", connections.Load(), text)
			}
		})
	}
}

// Variables that cannot be are refused before anything else happens.
func TestTracesAreRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	runCommand(t, append(sidecar(db.URL(), "stdout:", ">"), "OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TIMEOUT=10s", "OTEL_TRACES_SAMPLER=often"), "", "run").
		fails("OTEL_EXPORTER_OTLP_TIMEOUT=10s: must be a whole number from 1 to 3600000", "OTEL_TRACES_SAMPLER=often: must be one of always_on,")
}
