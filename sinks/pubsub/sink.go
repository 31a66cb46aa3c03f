package pubsubsink

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/sinks"
)

// mostCalls is how many calls one Deliver has out at once.
const mostCalls = 16

// sink publishes to one topic.
type sink struct {
	*link
	limits sinks.Limits
}

var _ sinks.Sink = (*sink)(nil)

func newSink(t sinks.Target, with sinks.Surroundings) (*sink, error) {
	c, err := parse(t)
	if err != nil {
		return nil, err
	}
	l, err := c.connect(with.Log, with.Secrets)
	if err != nil {
		return nil, err
	}
	return &sink{link: l, limits: sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}}, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error { return s.conn.Close() }

// entry is a message of a batch.
type entry struct {
	*pubsubpb.PubsubMessage
	at int
}

// Deliver implements sinks.Sink.
func (s *sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	places := semaphore.NewWeighted(mostCalls)
	var calls sync.WaitGroup
	for _, request := range s.requests(batch, outcomes) {
		if err := places.Acquire(ctx, 1); err != nil {
			for _, e := range request {
				outcomes[e.at] = s.outcomeOf(err)
			}
			continue
		}
		calls.Go(func() {
			defer places.Release(1)
			s.publish(ctx, request, outcomes)
		})
	}
	calls.Wait()
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(&s.secrets.Redactor, err)
	}
}

// requests are the messages of a batch by the calls that they go in: each ordering key has one of its own.
func (s *sink) requests(batch []sinks.Delivery, outcomes []error) (list [][]entry) {
	var together []entry
	size := maxOverheadOfMany
	for i := range batch {
		m, err := s.message(&batch[i])
		switch {
		case err != nil:
			outcomes[i] = sinks.Permanent(err)
			continue
		case m.OrderingKey != "":
			list = append(list, []entry{{m, i}})
			continue
		}
		n := proto.Size(m) + maxOverheadOfOne
		if len(together) == mostMessages || len(together) > 0 && size+n > s.MaxMessageBytes {
			list, together, size = append(list, together), nil, maxOverheadOfMany
		}
		together, size = append(together, entry{m, i}), size+n
	}
	if len(together) > 0 {
		list = append(list, together)
	}
	return list
}

var errSilent = errors.New("the answer has no id for it")

// publish makes one call. What it is refused for may be in one of the messages: each goes once more, alone.
func (s *sink) publish(ctx context.Context, request []entry, outcomes []error) {
	messages := make([]*pubsubpb.PubsubMessage, len(request))
	for i, e := range request {
		messages[i] = e.PubsubMessage
	}
	answer, err := s.client.Publish(ctx, &pubsubpb.PublishRequest{Topic: s.topic, Messages: messages}, once)
	if err != nil && refuses(err) && len(request) > 1 {
		for i := range request {
			s.publish(ctx, request[i:i+1], outcomes)
		}
		return
	}
	for i, e := range request {
		switch {
		case err != nil:
			outcomes[e.at] = s.outcomeOf(err)
		case len(answer.MessageIds) != len(request) || answer.MessageIds[i] == "":
			outcomes[e.at] = sinks.Retryable(errSilent, 0)
		}
	}
}

// once is that the library tries nothing again: the relay does.
var once = gax.WithRetry(nil)
