package outbox

import (
	"errors"
	"fmt"
	"strings"
)

// InvalidError is an error of the message itself, which the database has not seen: the transaction can go on. All other errors
// of the Enqueue functions come from the database or on the way to it.
type InvalidError struct {
	// Index is where the message is in its batch, from 0.
	Index int
	// Topic is the message's.
	Topic string
	// Field is the field of Message that is wrong: Topic, Key, Payload, Headers, DeliverAt, Priority, UniqueKey, UniqueScope, UniqueReplace. It is empty if no single one is.
	Field string
	// Problem says what is wrong, with the value in question.
	Problem string
	// Want says what would be right.
	Want string
	// Err is the cause, if there is one: such as an error of encoding/json or of the payload's own MarshalJSON.
	Err error
}

func (e *InvalidError) Error() string {
	var parts []string
	if e.Field != "Topic" {
		parts = append(parts, "message with topic "+e.Topic)
	}
	parts = append(parts, e.Problem)
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(append(parts, e.Want), ": ")
}

func (e *InvalidError) Unwrap() error { return e.Err }

// flaw is what is wrong with a value and what would be right; nil is a good one.
type flaw struct {
	problem, want string
	cause         error
}

// of is the error of a field with the flaw; subject names the value.
func (f *flaw) of(field, subject string) *InvalidError {
	return &InvalidError{Field: field, Problem: subject + " " + f.problem, Want: f.want, Err: f.cause}
}

// at says which message of a batch an error of encode is about.
func at(index int, err error) error {
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		invalid.Index = index
	}
	return fmt.Errorf("at index %d: %w", index, err)
}
