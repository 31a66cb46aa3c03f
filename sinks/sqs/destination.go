package sqssink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon"
)

// Destination is Amazon SQS, and what speaks its JSON protocol.
var Destination = sinks.Destination{
	Name:       "Amazon SQS",
	Schemes:    []string{"sqs"},
	Example:    "sqs://orders?region=eu-central-1",
	Options:    Options{},
	ReplayNote: "A standard queue gets what is replayed once more, with the same message_id. A FIFO queue drops what it has had within the last five minutes, and says that it has it.",
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

// examine looks for the queue and for how large its messages may be. It sends nothing.
func examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := newSink(t, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	url, err := s.queueURL(ctx)
	if err != nil {
		return amazon.Unfit(sinks.RedactOutcome(s.link.Redact(), amazon.Outcome(err)))
	}
	answer, err := s.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameMaximumMessageSize}})
	switch {
	case amazon.Denied(err):
		return nil // what may not be asked is not known
	case err != nil:
		return amazon.Unfit(sinks.RedactOutcome(s.link.Redact(), amazon.Outcome(err)))
	}
	most, err := strconv.Atoi(answer.Attributes[string(types.QueueAttributeNameMaximumMessageSize)])
	if err == nil && most < s.MaxMessageBytes {
		return &sinks.UnfitError{
			Text:   fmt.Sprintf("the queue takes messages of at most %d bytes, max_message_bytes is %d", most, s.MaxMessageBytes),
			Remedy: "raise the queue's MaximumMessageSize, or lower max_message_bytes", Risk: true,
		}
	}
	return nil
}
