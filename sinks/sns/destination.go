package snssink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon"
)

// Destination is Amazon SNS.
var Destination = sinks.Destination{
	Name:       "Amazon SNS",
	Schemes:    []string{"sns"},
	Example:    "sns:arn:aws:sns:eu-central-1:123456789012:orders",
	Options:    Options{},
	ReplayNote: "A standard topic passes on what is replayed once more, with the same message_id. A FIFO topic drops what it has had within the last five minutes, and says that it has it.",
	Check:      check,
	Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
		s, err := newSink(t, with)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
	Examine: examine,
}

func check(t sinks.Target, secrets *secret.Store) error {
	c, err := parse(t)
	if err != nil || secrets == nil {
		return err
	}
	return c.CheckHere(secrets)
}

const examineTimeout = 10 * time.Second

// examine looks for the topic and for how large its messages may be. It sends nothing.
func examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := newSink(t, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	answer, err := s.client.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &s.arn})
	switch {
	case amazon.Denied(err):
		return nil // what may not be asked is not known
	case err != nil:
		return amazon.Unfit(sinks.RedactOutcome(s.link.Redact(), amazon.Outcome(err)))
	}
	most, err := strconv.Atoi(cmp.Or(answer.Attributes["MaximumMessageSize"], strconv.Itoa(amazon.DefaultMaxMessageBytes)))
	if err == nil && most < s.MaxMessageBytes {
		return &sinks.UnfitError{
			Text:   fmt.Sprintf("the topic takes messages of at most %d bytes, max_message_bytes is %d", most, s.MaxMessageBytes),
			Remedy: "raise the topic's MaximumMessageSize, or lower max_message_bytes", Risk: true,
		}
	}
	return nil
}
