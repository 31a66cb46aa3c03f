package kafkasink

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/postrider/postrider/sinks"
)

// Deliver produces the batch and waits for the acknowledgements.
func (s *Sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	if len(batch) == 0 {
		return
	}
	if err := s.company.Acquire(ctx, 1); err != nil {
		fill(outcomes, err)
		return
	}
	s.produce(ctx, batch, outcomes)
	s.company.Release(1)
	var doubtful []int
	for i, err := range outcomes {
		if isShared(err) {
			doubtful = append(doubtful, i)
		}
	}
	if len(doubtful) > 0 {
		s.deliverAlone(ctx, batch, outcomes, doubtful)
	}
	for i, err := range outcomes {
		if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) {
			s.client.PurgeTopicsFromProducing(s.topicOf(&batch[i])) // one that is made again is another one to brokers
		}
		outcomes[i] = s.redact(s.outcome(ctx, err))
	}
}

// sharedErrors are what brokers say of a batch as a whole, for one message in it; the client says it of all that waits for the same
// partition, whoever it is from.
var sharedErrors = []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.CorruptMessage}

func isShared(err error) bool {
	for _, e := range sharedErrors {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// deliverAlone produces messages one by one, with nothing else on its way, so that what is said of one is about that one.
func (s *Sink) deliverAlone(ctx context.Context, batch []sinks.Delivery, outcomes []error, places []int) {
	give := func(places []int, err error) {
		for _, i := range places {
			outcomes[i] = err
		}
	}
	if err := s.company.Acquire(ctx, everybody); err != nil {
		give(places, err)
		return
	}
	defer s.company.Release(everybody)
	within, cancel := context.WithTimeout(ctx, time.Duration(s.AckTimeout))
	defer cancel()
	if err := s.client.Flush(within); err != nil {
		give(places, errSilent)
		return
	}
	for n, i := range places {
		outcomes[i] = nil
		if s.produce(ctx, batch[i:i+1], outcomes[i:i+1]); outcomes[i] == nil {
			continue
		}
		if isShared(outcomes[i]) {
			outcomes[i] = alone(outcomes[i])
			continue
		}
		give(places[n+1:], outcomes[i]) // the destination's trouble: the others would meet it, too
		return
	}
}

func fill(outcomes []error, err error) {
	for i := range outcomes {
		outcomes[i] = err
	}
}
