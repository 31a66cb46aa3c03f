package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"github.com/postrider/postrider/sinks"
)

// Sink posts messages to one URL.
type Sink struct {
	url           *url.URL
	name          string // for errors: scheme and host
	userAgent     []string
	authorization []string
	timeout       time.Duration
	lanes         int
	transport     *http.Transport
	end           context.CancelFunc
}

var _ sinks.Sink = (*Sink)(nil)

// New returns a sink for cfg.URL. It makes no connection yet. Errors name the setting that is wrong.
func New(cfg Config) (*Sink, error) {
	cfg = cfg.withDefaults()
	u, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	s := &Sink{
		url: u, name: u.Scheme + "://" + u.Host, timeout: cfg.Timeout, lanes: cfg.Lanes,
		userAgent: []string{"postrider/" + sinks.EncodeHeader(cfg.Version)},
	}
	if u.User != nil {
		password, _ := u.User.Password()
		plain := u.User.Username() + ":" + password
		s.authorization = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(plain))}
		u.User = nil
	}
	life, end := context.WithCancel(context.Background())
	s.transport, s.end = newTransport(life, cfg), end
	return s, nil
}

// Limits asks for batches of one: HTTP has no batches.
func (s *Sink) Limits() sinks.Limits { return sinks.Limits{Lanes: s.lanes, Batch: 1} }

// Deliver posts the messages one after another. Once the destination is unavailable or gone, the rest of the batch is
// not sent and shares that outcome.
func (s *Sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	for i := range batch {
		outcomes[i] = s.post(ctx, &batch[i])
		if kind, _ := sinks.Classify(outcomes[i]); kind == sinks.KindUnavailable || kind == sinks.KindGone {
			for j := i + 1; j < len(batch); j++ {
				outcomes[j] = outcomes[i]
			}
			return
		}
	}
}

// Close closes the connections.
func (s *Sink) Close() error {
	s.end()
	s.transport.CloseIdleConnections()
	return nil
}

func (s *Sink) post(ctx context.Context, d *sinks.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	header, err := s.headers(d, time.Now())
	if err != nil {
		return sinks.Permanent(err)
	}
	attempt, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res, err := s.roundTrip(attempt, header, d.Payload)
	if err != nil {
		return s.failed(ctx, attempt, err)
	}
	return s.answered(res)
}

// roundTrip sends the request, and once more if a kept-alive connection broke before an answer came: it may have been
// closed long ago, so that this says nothing about the message, and often the destination has just gone down.
func (s *Sink) roundTrip(ctx context.Context, header http.Header, payload []byte) (*http.Response, error) {
	var reused bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	res, err := s.transport.RoundTrip(s.request(traced, header, payload))
	if err == nil || !reused || isConnectError(err) || isTimeout(err) || ctx.Err() != nil {
		return res, err
	}
	s.transport.CloseIdleConnections()
	return s.transport.RoundTrip(s.request(ctx, header, payload))
}

// request is built by hand: RoundTrip, unlike http.Client, neither follows redirects nor puts the URL into errors.
func (s *Sink) request(ctx context.Context, header http.Header, payload []byte) *http.Request {
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
	req := &http.Request{
		Method: http.MethodPost, URL: s.url, Host: s.url.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		// Lets the transport take another connection if an idle one turns out to be closed before a byte was written.
		GetBody: body, ContentLength: int64(len(payload)),
	}
	req.Body, _ = body()
	if len(payload) == 0 {
		req.Body = http.NoBody
	}
	return req.WithContext(ctx)
}

// failed classifies an attempt without an answer.
func (s *Sink) failed(ctx, attempt context.Context, err error) error {
	connecting, timeout := isConnectError(err), isTimeout(err) || attempt.Err() != nil
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("POST %s: %w", s.name, ctx.Err())
	case connecting:
		return sinks.Unavailable(fmt.Errorf("connect to %s: %w", s.name, err), 0)
	case timeout:
		return sinks.Unavailable(fmt.Errorf("POST %s: no answer within %v: %w", s.name, s.timeout, err), 0)
	}
	return sinks.Retryable(fmt.Errorf("POST %s: the connection broke before an answer came: %w", s.name, err), 0)
}
