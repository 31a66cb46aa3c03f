package natssink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/sinks"
)

const diagnoseTimeout = 2 * time.Second

// Codes of JetStream's errors, by their names in the server's errors.json, as far as the library has no constants.
const (
	codeAccountResources   = 10002
	codeClusterUnavailable = 10008
	codeStreamNotMatch     = 10060
	codeStoreFailed        = 10077
	codeHeaderTooLarge     = 10097
	codeSealed             = 10109
	codeDuplicateInProcess = 10158
)

// byCode holds the answers of a stream whose outcome does not follow from the code's class.
var byCode = map[jetstream.ErrorCode]sinks.Kind{
	jetstream.JSErrCodeStreamMessageExceedsMaximum: sinks.KindPermanent,
	codeHeaderTooLarge:     sinks.KindPermanent,
	codeStreamNotMatch:     sinks.KindMisconfigured,
	codeAccountResources:   sinks.KindUnavailable,
	codeClusterUnavailable: sinks.KindUnavailable,
	codeSealed:             sinks.KindMisconfigured,
	codeDuplicateInProcess: sinks.KindRetryable,
}

// byStoreError refines codeStoreFailed, which covers all that a store can answer; by default the stream is full.
var byStoreError = map[string]sinks.Kind{
	"message too large":                     sinks.KindPermanent,
	"maximum messages per subject exceeded": sinks.KindRetryable,
}

func kindOf(e *jetstream.APIError) sinks.Kind {
	if k, ok := byCode[e.ErrorCode]; ok {
		return k
	}
	if k, ok := byStoreError[e.Description]; ok && e.ErrorCode == codeStoreFailed {
		return k
	}
	if e.Code >= 500 {
		return sinks.KindUnavailable
	}
	return sinks.KindRetryable
}

// outcome classifies what came of a message that was sent.
func (s *Sink) outcome(ctx context.Context, subject string, err error) error {
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	if no := s.link.refusal(subject); no != nil {
		return sinks.Misconfigured(no)
	}
	if o, ok := errors.AsType[*sinks.OutcomeError](err); ok {
		return &sinks.OutcomeError{Kind: o.Kind, Err: fmt.Errorf("publish to %s: %w", subject, o.Err)}
	}
	e, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return sinks.Unavailable(fmt.Errorf("publish to %s: %w", subject, err), 0)
	}
	reason := fmt.Errorf("JetStream refused subject %s: %w", subject, e)
	if e.ErrorCode == codeStreamNotMatch {
		reason = fmt.Errorf("subject %s belongs to another stream than %s: correct the stream setting or the streams' subjects: %w", subject, s.cfg.Stream, e)
	}
	switch kindOf(e) {
	case sinks.KindPermanent:
		return sinks.Permanent(reason)
	case sinks.KindUnavailable:
		return sinks.Unavailable(reason, 0)
	case sinks.KindMisconfigured:
		return sinks.Misconfigured(reason)
	}
	return sinks.Retryable(reason, 0)
}

// refused classifies a message that the client library did not take.
func refused(c *conn, m *nats.Msg, err error) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return sinks.Permanent(fmt.Errorf("a payload of %d bytes and its headers exceed the server's max_payload of %d bytes: %w", len(m.Data), c.nc.MaxPayload(), err))
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg):
		return sinks.Permanent(fmt.Errorf("publish to %s: %w", m.Subject, err))
	}
	return sinks.Unavailable(fmt.Errorf("publish to %s: %w", m.Subject, err), 0)
}

// unconnected classifies why there is no connection.
func unconnected(err error) error {
	refused := slices.ContainsFunc([]error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrPermissionViolation, nats.ErrSecureConnRequired, nats.ErrSecureConnWanted, nats.ErrNkeysNotSupported}, func(no error) bool { return errors.Is(err, no) })
	if refused || sinks.IsTLSRefusal(err) {
		return sinks.Misconfigured(err)
	}
	return sinks.Unavailable(err, 0)
}

// diagnose finds out why no stream answered: usually there is none, which a person has to mend and is Misconfigured.
func (s *Sink) diagnose(ctx context.Context, c *conn, subject string, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	if s.cfg.Stream != "" {
		if _, err := c.js.Stream(ctx, s.cfg.Stream); errors.Is(err, jetstream.ErrStreamNotFound) {
			return misconfigured("stream %q does not exist: create it with: nats stream add %s --subjects '%s': %w", s.cfg.Stream, s.cfg.Stream, s.pattern(subject), cause)
		}
	}
	name, err := c.js.StreamNameBySubject(ctx, subject)
	switch {
	case err == nil:
		return fmt.Errorf("stream %q did not answer, it may have no leader: %w", name, cause)
	case errors.Is(err, jetstream.ErrStreamNotFound) && s.cfg.Stream != "":
		return misconfigured("stream %q does not capture the subject: add it with: nats stream edit %s --subjects '…,%s': %w", s.cfg.Stream, s.cfg.Stream, s.pattern(subject), cause)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return misconfigured("no stream captures the subject: create one with: nats stream add NAME --subjects '%s': %w", s.pattern(subject), cause)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return misconfigured("JetStream is not enabled on this server or account: enable it, or use core NATS (core=1), where nobody confirms anything: %w", cause)
	}
	return cause
}

func misconfigured(format string, args ...any) error {
	return sinks.Misconfigured(fmt.Errorf(format, args...))
}

// pattern is a stream's subject that would capture this one, and its like if a prefix tells them apart.
func (s *Sink) pattern(subject string) string {
	if p := s.cfg.Prefix; p != "" && p[len(p)-1] == '.' {
		return p + ">"
	}
	return subject
}
