package pubsubsink

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/encoding/protowire"

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
	l, err := c.connect(with.Log, with.Secrets, with.Meter)
	if err != nil {
		return nil, err
	}
	return &sink{link: l, limits: sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}}, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error { return s.conn.Close() }

// request is what goes in one call: its messages as they are encoded, one behind the other.
type request struct {
	wire []byte
	ends []int // of each message
	at   []int // their places in the batch
}

func (r *request) add(m *message, at int) {
	r.wire = protowire.AppendBytes(protowire.AppendTag(r.wire, fieldMessages, protowire.BytesType), m.wire)
	r.ends, r.at = append(r.ends, len(r.wire)), append(r.at, at)
}

// half returns the messages from one to another.
func (r *request) half(from, to int) *request {
	begin := 0
	if from > 0 {
		begin = r.ends[from-1]
	}
	h := &request{wire: r.wire[begin:r.ends[to-1]], at: r.at[from:to]}
	for _, end := range r.ends[from:to] {
		h.ends = append(h.ends, end-begin)
	}
	return h
}

// Deliver implements sinks.Sink.
func (s *sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	places := semaphore.NewWeighted(mostCalls)
	var calls sync.WaitGroup
	for _, r := range s.requests(batch, outcomes) {
		if err := places.Acquire(ctx, 1); err != nil {
			for _, at := range r.at {
				outcomes[at] = s.outcomeOf(err)
			}
			continue
		}
		calls.Go(func() {
			defer places.Release(1)
			s.publish(ctx, r, outcomes)
		})
	}
	calls.Wait()
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(&s.secrets.Redactor, err)
	}
}

// usual is more than most messages take with their attributes, beside the payload.
const usual = 512

// requests are the messages of a batch by the calls that they go in: each ordering key has one of its own.
func (s *sink) requests(batch []sinks.Delivery, outcomes []error) (list []*request) {
	var together *request
	var m message
	for i := range batch {
		ordering, err := s.render(&m, &batch[i])
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		if ordering != "" {
			r := &request{wire: make([]byte, 0, len(m.wire)+maxOverheadOfOne)}
			r.add(&m, i)
			list = append(list, r)
			continue
		}
		if together == nil || len(together.at) == mostMessages || len(together.wire)+len(m.wire)+maxOverheadOfOne+maxOverheadOfMany > s.MaxMessageBytes {
			left := min(len(batch)-i, mostMessages)
			together = &request{wire: make([]byte, 0, min(left*(len(batch[i].Payload)+usual), s.MaxMessageBytes)), ends: make([]int, 0, left), at: make([]int, 0, left)}
			list = append(list, together)
		}
		together.add(&m, i)
	}
	return list
}

var errSilent = errors.New("the answer has no id for it")

// publish makes one call. What it is refused for may be in one of the messages: each half goes once more, until that one is alone.
func (s *sink) publish(ctx context.Context, r *request, outcomes []error) {
	call := &pubsubpb.PublishRequest{Topic: s.topic}
	call.ProtoReflect().SetUnknown(r.wire) // the library copies it behind the topic
	answer, err := s.client.Publish(ctx, call, once)
	if n := len(r.at); err != nil && refuses(err) && n > 1 {
		s.publish(ctx, r.half(0, n/2), outcomes)
		s.publish(ctx, r.half(n/2, n), outcomes)
		return
	}
	for i, at := range r.at {
		switch {
		case err != nil:
			outcomes[at] = s.outcomeOf(err)
		case len(answer.MessageIds) != len(r.at) || answer.MessageIds[i] == "":
			outcomes[at] = sinks.Retryable(errSilent, 0)
		}
	}
}

// once is that the library tries nothing again: the relay does.
var once = gax.WithRetry(nil)
