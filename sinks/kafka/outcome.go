package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/postrider/postrider/sinks"
)

// mistakes are the errors of brokers that somebody has to mend, and how.
var mistakes = map[*kerr.Error]string{
	kerr.UnknownTopicOrPartition:            "the topic does not exist: create it, or correct the topic (this sink never creates one)",
	kerr.UnknownTopicID:                     "the topic does not exist any more: create it again, or correct the topic",
	kerr.InvalidTopicException:              "the cluster does not take this topic's name: correct the topic",
	kerr.TopicAuthorizationFailed:           "the user may not write to the topic: allow it WRITE and DESCRIBE",
	kerr.ClusterAuthorizationFailed:         "the user may not produce idempotently: allow it IDEMPOTENT_WRITE on the cluster",
	kerr.SaslAuthenticationFailed:           "user or password is wrong: correct the options user and password",
	kerr.UnsupportedSaslMechanism:           "the brokers do not offer this mechanism: correct the option mechanism",
	kerr.IllegalSaslState:                   "the brokers want to be told a user: set the options mechanism, user and password",
	kerr.SecurityDisabled:                   "the brokers know no users: leave the options mechanism, user and password out",
	kerr.PolicyViolation:                    "a policy of the cluster refuses it",
	kerr.UnsupportedVersion:                 "the brokers are too old: Kafka 0.11 is the oldest that can be used",
	kerr.UnsupportedForMessageFormat:        "the topic keeps messages in a format that is too old: raise its message.format.version",
	kerr.UnsupportedCompressionType:         "the brokers or the topic do not take this compression: correct the option compression",
	kerr.TransactionalIDAuthorizationFailed: "the user may not produce idempotently: allow it IDEMPOTENT_WRITE on the cluster",
}

// bad says why a message can never be stored, of errors that are about it alone.
var bad = map[*kerr.Error]string{
	kerr.MessageTooLarge:    "it is larger than the topic's max.message.bytes",
	kerr.RecordListTooLarge: "it is larger than the topic's segment.bytes",
	kerr.InvalidRecord:      "the topic refuses it: one that is compacted takes no message without a key",
	kerr.InvalidTimestamp:   "the topic refuses its time",
}

// alone classifies what was said of a message that was sent with no other.
func alone(err error) error {
	for is, why := range bad {
		if errors.Is(err, is) {
			return sinks.Permanent(fmt.Errorf("%s: %w", why, err))
		}
	}
	return sinks.Retryable(fmt.Errorf("the broker does not take it: %w", err), 0)
}

// silence is why there was no answer, as far as that is known.
func (s *Sink) silence(err error) error {
	if s.trouble.get() != nil {
		return s.withTrouble(errors.New("no acknowledgement, and no connection"))
	}
	if err != errSilent {
		return fmt.Errorf("no acknowledgement within %v: %w", giveUpAfter, err)
	}
	return fmt.Errorf("no acknowledgement within %v; it may still come, and is waited for when the message is delivered again", time.Duration(s.AckTimeout))
}

// outcome classifies what the client said of a message.
func (s *Sink) outcome(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*sinks.OutcomeError](err); ok || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	if errors.Is(err, errSilent) || errors.Is(err, kgo.ErrRecordTimeout) || errors.Is(err, kgo.ErrRecordRetries) {
		err = s.silence(err)
	}
	if sinks.IsTLSRefusal(err) {
		return sinks.Misconfigured(err)
	}
	e, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return sinks.Unavailable(err, 0)
	}
	if advice, ok := mistakes[e]; ok {
		return sinks.Misconfigured(fmt.Errorf("%s: %w", advice, err))
	}
	return sinks.Unavailable(err, 0)
}
