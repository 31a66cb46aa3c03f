package sinks

import (
	"errors"

	"github.com/postrider/postrider/internal/secret"
)

// RedactOutcome returns an outcome whose text holds no secret, and no character that does not show but changes what does.
func RedactOutcome(r *secret.Redactor, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	clean := r.Clean(text)
	if clean == text {
		return err
	}
	if o, ok := errors.AsType[*OutcomeError](err); ok {
		kind := *o
		kind.Err = &redactedError{clean, o.Err}
		return &kind
	}
	return &redactedError{clean, err}
}

type redactedError struct {
	text string
	err  error
}

// Error returns the text without secrets.
func (r *redactedError) Error() string { return r.text }

// Unwrap returns the error as it was.
func (r *redactedError) Unwrap() error { return r.err }
