package amqpsink

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

// outcomeOf makes an outcome of an error that is not about one message. A refusal stays one: whose it is shows later.
func outcomeOf(err error) error {
	if r, ok := err.(*refusal); ok {
		return r
	}
	fault := wire.Fault(err)
	if fault == nil {
		fault = setup(err)
	}
	if fault != nil {
		return sinks.Misconfigured(fault)
	}
	if e, ok := errors.AsType[*amqp.Error](err); ok {
		err = errors.New(reasonOf(e))
	}
	return sinks.Unavailable(err, 0)
}

// setup says what somebody has to change, nil if it is nothing of that kind.
func setup(err error) error {
	e, said := errors.AsType[*amqp.Error](err)
	switch {
	case errors.Is(err, errConfirms):
		return err
	case errors.Is(err, amqp.ErrSASL):
		return errors.New("the server offers no mechanism of ours: it may want another one, see the option mechanism")
	case errors.Is(err, amqp.ErrCredentials):
		return errors.New("the server ended the connection when it was told the user: user or password is wrong; without a user it is guest, who may come from the server's own machine alone")
	case said && e.Code == amqp.NotAllowed && !strings.Contains(e.Reason, "limit"), said && e.Server && e.Code == amqp.AccessRefused:
		return errors.New(reasonOf(e))
	}
	return nil
}

// reasonOf is what was said, in one line, with its code where the server said it.
func reasonOf(e *amqp.Error) string {
	if !e.Server {
		return e.Reason
	}
	return fmt.Sprintf("%s (%d)", strings.Join(strings.Fields(e.Reason), " "), e.Code)
}

// alone is the outcome of a message for which alone the server closed a channel.
func (r *refusal) alone(exchange string) error {
	reason := r.Error()
	switch r.said.Code {
	case amqp.NotFound:
		return sinks.Misconfigured(fmt.Errorf("%s: create the exchange %q, or correct the option exchange (this sink never creates one)", reason, exchange))
	case amqp.AccessRefused:
		return sinks.Misconfigured(fmt.Errorf("%s: the user needs the permission to write to it", reason))
	case amqp.PreconditionFailed, amqp.ContentTooLarge:
		return sinks.Permanent(errors.New(reason))
	}
	return sinks.Retryable(errors.New(reason), 0)
}
