package sqssink

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon"
)

// sink sends to one queue.
type sink struct {
	*settings
	link   *amazon.Connection
	client *sqs.Client
	limits sinks.Limits

	mu  sync.Mutex
	url string // of the queue; empty: to be asked for
}

var _ sinks.Sink = (*sink)(nil)

func newSink(t sinks.Target, with sinks.Surroundings) (*sink, error) {
	c, err := parse(t)
	if err != nil {
		return nil, err
	}
	link, err := c.Connect(with.Log, with.Secrets)
	if err != nil {
		return nil, err
	}
	options := sqs.Options{Region: c.queue.Region, Credentials: link, HTTPClient: link, Retryer: aws.NopRetryer{}}
	if c.Endpoint != "" {
		options.BaseEndpoint = &c.Endpoint
	}
	return &sink{settings: c, link: link, client: sqs.New(options), limits: sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}}, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error {
	s.link.Close()
	return nil
}

// Deliver implements sinks.Sink.
func (s *sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.Options.Deliver(ctx, s.queue.FIFO, batch, outcomes, s.send)
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(s.link.Redact(), err)
	}
}

// queueURL is where the queue is. Several may ask at once: each gets the same answer.
func (s *sink) queueURL(ctx context.Context) (string, error) {
	s.mu.Lock()
	known := s.url
	s.mu.Unlock()
	if known != "" {
		return known, nil
	}
	question := &sqs.GetQueueUrlInput{QueueName: &s.queue.Name}
	if s.queue.Account != "" {
		question.QueueOwnerAWSAccountId = &s.queue.Account
	}
	answer, err := s.client.GetQueueUrl(ctx, question)
	if err != nil {
		if kind, _ := sinks.Classify(amazon.Outcome(err)); kind == sinks.KindPermanent { // no message is to blame
			err = sinks.Misconfigured(err)
		}
		return "", err
	}
	s.know(aws.ToString(answer.QueueUrl))
	if aws.ToString(answer.QueueUrl) == "" {
		return "", errors.New("the server says no URL of the queue")
	}
	return *answer.QueueUrl, nil
}

func (s *sink) know(url string) {
	s.mu.Lock()
	s.url = url
	s.mu.Unlock()
}

// send is an amazon.Send.
func (s *sink) send(ctx context.Context, entries []amazon.Entry) (map[string]error, error) {
	url, err := s.queueURL(ctx)
	if err != nil {
		return nil, amazon.Outcome(err)
	}
	request := &sqs.SendMessageBatchInput{QueueUrl: &url}
	for _, e := range entries {
		request.Entries = append(request.Entries, entryOf(e))
	}
	answer, err := s.client.SendMessageBatch(ctx, request)
	if err != nil {
		if _, gone := errors.AsType[*types.QueueDoesNotExist](err); gone {
			s.know("") // one that is made again may be elsewhere
		}
		return nil, err
	}
	results := make(map[string]error, len(entries))
	for _, e := range answer.Successful {
		if aws.ToString(e.MessageId) != "" {
			results[aws.ToString(e.Id)] = nil
		}
	}
	for _, e := range answer.Failed {
		results[aws.ToString(e.Id)] = amazon.Failed(aws.ToString(e.Code), aws.ToString(e.Message), e.SenderFault)
	}
	return results, nil
}

func entryOf(e amazon.Entry) types.SendMessageBatchRequestEntry {
	entry := types.SendMessageBatchRequestEntry{Id: &e.ID, MessageBody: &e.Body, MessageAttributes: make(map[string]types.MessageAttributeValue, len(e.Attributes))}
	for name, value := range e.Attributes {
		entry.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
	}
	if e.Group != "" {
		entry.MessageGroupId, entry.MessageDeduplicationId = &e.Group, &e.Deduplication
	}
	return entry
}
