package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/pacing"
	"github.com/postrider/postrider/sinks/webhook/internal/http1"
	"github.com/postrider/postrider/sinks/webhook/internal/sign"
	"github.com/postrider/postrider/sinks/webhook/internal/transport"
)

// Sink posts messages to one URL.
type Sink struct {
	url       *url.URL
	name      string // for errors: scheme and host
	options   Options
	userAgent []string
	fixed     []fixedHeader   // headers of every request
	taken     map[string]bool // their names, in lower case
	signers   sign.Signers
	timeout   time.Duration
	lanes     int
	transport *transport.Transport
	flow      *pacing.Flow
	keep      func(Receipt)
	callback  func(subscription string, id, token int64) string // may be nil
	requests  sync.Pool                                         // of *request

	lastSource atomic.Pointer[string]
	log        *slog.Logger
	secrets    *secret.Store
	end        context.CancelFunc
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
		url: u, name: u.Scheme + "://" + u.Host, options: cfg.Options, timeout: cfg.Timeout, lanes: cfg.Lanes,
		userAgent: []string{"postrider/" + sinks.EncodeHeader(cfg.Version)},
		flow:      pacing.New(cfg.Options.pace(cfg.Lanes)), keep: cfg.Receipt, callback: cfg.CallbackURL, log: cfg.Log, secrets: cfg.Secrets,
		requests: sync.Pool{New: func() any { return new(request) }},
	}
	if err := s.readSecrets(cfg.Log); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	if s.transport, err = transport.New(life, cfg.transport(u, s.userAgent[0])); err != nil {
		end()
		return nil, err
	}
	s.end = end
	return s, nil
}

// readSecrets follows the references. User info leaves the URL, which is sent and shown.
func (s *Sink) readSecrets(log *slog.Logger) (err error) {
	if s.fixed, err = fixedHeaders(log, s.secrets, &s.options, s.url.User); err != nil {
		return err
	}
	s.url.User = nil
	s.secrets.Learn(secretParts(s.url)...)
	s.taken = make(map[string]bool, len(s.fixed))
	for _, h := range s.fixed {
		s.taken[dashed(h.name)] = true
	}
	for i, ref := range s.options.Secrets {
		w, err := secret.Watch(log, s.secrets, secretSetting(i), ref, sign.Parse)
		if err != nil {
			return err
		}
		s.signers = append(s.signers, w)
	}
	return nil
}

// String names the destination without any secret.
func (s *Sink) String() string { return "webhook " + s.name }

// Limits asks for batches where the format has them.
func (s *Sink) Limits() sinks.Limits {
	if s.options.batches() {
		return sinks.Limits{Lanes: s.lanes, Batch: DefaultBatch}
	}
	return sinks.Limits{Lanes: s.lanes, Batch: 1}
}

// Deliver posts the messages one after another, or in as few requests as the format allows. Once the destination is
// unavailable or gone, the rest of the batch is not sent and shares that outcome.
func (s *Sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	defer func() {
		for i, err := range outcomes {
			outcomes[i] = sinks.RedactOutcome(&s.secrets.Redactor, err)
		}
	}()
	if s.options.batches() {
		s.deliverEvents(ctx, batch, outcomes)
		return
	}
	for i := range batch {
		outcomes[i] = s.deliver(ctx, &batch[i])
		if down := ifDown(outcomes[i]); down != nil {
			for j := i + 1; j < len(batch); j++ {
				outcomes[j] = down
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

// deliver posts one message.
func (s *Sink) deliver(ctx context.Context, d *sinks.Delivery) error {
	r, err := s.messageRequest(d)
	if err != nil {
		return sinks.Permanent(err)
	}
	defer s.free(r)
	return s.post(ctx, r)
}

// post makes one attempt at a request, when the destination can be asked to take one more, and says what came of it as a
// whole.
func (s *Sink) post(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.flow.Enter(ctx); err != nil {
		return err
	}
	began := time.Now()
	err := s.attempt(ctx, r, began)
	s.flow.Leave(ctx, pacing.Result{Began: began, Ended: time.Now(), Overloaded: overloaded(r.status), Down: ifDown(err)})
	return err
}

func (s *Sink) attempt(ctx context.Context, r *request, now time.Time) error {
	s.stamp(r, now)
	if p := s.transport.Connections(now); p.Direct() {
		res, ok, err := r.exchange(ctx, p, now.Add(s.timeout))
		if err != nil {
			return s.failed(ctx, err, false)
		}
		if ok {
			return s.settle(r, res)
		}
	}
	attempt, cancel := context.WithDeadline(ctx, now.Add(s.timeout))
	defer cancel()
	res, err := s.roundTrip(attempt, r.header(s.userAgent), r.body)
	if err != nil {
		return s.failed(ctx, err, attempt.Err() != nil)
	}
	return s.settle(r, res)
}

// settle turns a response into an outcome. It leaves the results for single events in the request.
func (s *Sink) settle(r *request, res *http.Response) (err error) {
	r.status = res.StatusCode
	if r.batch {
		if r.results, err = s.readResults(res); err != nil {
			res.Body.Close()
			return sinks.Retryable(err, 0)
		}
	}
	return s.answered(r, res)
}

// roundTrip sends the request, and once more if a kept-alive connection broke before an answer came: it may have been
// closed long ago, so that this says nothing about the message, and often the destination has just gone down.
func (s *Sink) roundTrip(ctx context.Context, header http.Header, payload []byte) (*http.Response, error) {
	var reused bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	res, err := s.transport.RoundTrip(s.request(traced, header, payload))
	if err == nil || !reused || transport.IsConnectError(err) || http1.IsTimeout(err) || ctx.Err() != nil {
		return res, err
	}
	s.transport.CloseIdleConnections()
	return s.transport.RoundTrip(s.request(ctx, header, payload))
}

// payloadReader is a request's body.
type payloadReader struct{ bytes.Reader }

func (*payloadReader) Close() error { return nil }

func newPayloadReader(payload []byte) io.ReadCloser {
	r := new(payloadReader)
	r.Reset(payload)
	return r
}

// request is built by hand: RoundTrip, unlike http.Client, neither follows redirects nor puts the URL into errors.
func (s *Sink) request(ctx context.Context, header http.Header, payload []byte) *http.Request {
	template := http.Request{Method: http.MethodPost, URL: s.url, Host: s.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	req := template.WithContext(ctx)
	req.Header, req.ContentLength = header, int64(len(payload))
	req.Body = http.NoBody
	if len(payload) > 0 {
		req.Body = newPayloadReader(payload)
	}
	// Lets the transport take another connection if an idle one turns out to be closed before a byte was written.
	req.GetBody = func() (io.ReadCloser, error) { return newPayloadReader(payload), nil }
	return req
}

// failed classifies an attempt without an answer. Timeout says that its time is up; the error may say so as well.
func (s *Sink) failed(ctx context.Context, err error, timeout bool) error {
	connecting, timeout := transport.IsConnectError(err), timeout || http1.IsTimeout(err)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("POST %s: %w", s.name, ctx.Err())
	case connecting && sinks.IsTLSRefusal(err):
		return sinks.Misconfigured(fmt.Errorf("connect to %s: %w", s.name, err))
	case connecting:
		return sinks.Unavailable(fmt.Errorf("connect to %s: %w", s.name, err), 0)
	case timeout:
		return sinks.Unavailable(fmt.Errorf("POST %s: no answer within %v: %w", s.name, s.timeout, err), 0)
	}
	if transport.IsFormError(err) {
		what := "the answer has a form or size that cannot be used"
		if strings.Contains(err.Error(), "missing colon") { // which is also what a line without its end looks like
			what = "the answer is malformed, or broke off"
		}
		return sinks.Retryable(fmt.Errorf("POST %s: %s: %w", s.name, what, err), 0)
	}
	return sinks.Retryable(fmt.Errorf("POST %s: the connection broke before an answer came: %w", s.name, err), 0)
}
