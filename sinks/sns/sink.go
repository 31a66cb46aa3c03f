package snssink

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon"
)

// Defaults of a subscription's settings.
const (
	DefaultTimeout = 10 * time.Second
	DefaultLanes   = 4
	DefaultBatch   = amazon.MostEntries
)

// longestName is how long the name of a topic may be, with .fifo.
const longestName = 256

// Options are the settings of a subscription that only SNS has.
type Options struct {
	amazon.Options
}

// settings are a target's URL and options together.
type settings struct {
	Options
	topic   amazon.Resource
	timeout time.Duration
}

// parse reads a target, sns:arn:aws:sns:eu-central-1:123456789012:orders. What is wrong with the options is a sinks.OptionsError.
func parse(t sinks.Target) (*settings, error) {
	c := &settings{timeout: cmp.Or(t.Timeout, DefaultTimeout)}
	if err := sinks.DecodeOptions(t.Options, &c.Options); err != nil {
		return nil, err
	}
	var err error
	if c.topic, err = c.ParseURL(t.URL, "sns", longestName); err != nil {
		return nil, fmt.Errorf("the sink's URL %w", err)
	}
	if err := c.Check(); err != nil {
		return nil, sinks.OptionsError{Err: fmt.Errorf("options: %w", err)}
	}
	return c, nil
}

// sink publishes to one topic.
type sink struct {
	*settings
	link   *amazon.Connection
	client *sns.Client
	arn    string
	limits sinks.Limits
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
	options := sns.Options{Region: c.topic.Region, Credentials: link, HTTPClient: link, Retryer: aws.NopRetryer{}}
	if c.Endpoint != "" {
		options.BaseEndpoint = &c.Endpoint
	}
	return &sink{settings: c, link: link, client: sns.New(options), arn: c.topic.ARN("sns"), limits: sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}}, nil
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
	s.Options.Deliver(ctx, s.topic.FIFO, batch, outcomes, s.send)
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(s.link.Redact(), err)
	}
}

// send is an amazon.Send.
func (s *sink) send(ctx context.Context, entries []amazon.Entry) (map[string]error, error) {
	request := &sns.PublishBatchInput{TopicArn: &s.arn}
	for _, e := range entries {
		request.PublishBatchRequestEntries = append(request.PublishBatchRequestEntries, entryOf(e))
	}
	answer, err := s.client.PublishBatch(ctx, request)
	if err != nil {
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

func entryOf(e amazon.Entry) types.PublishBatchRequestEntry {
	entry := types.PublishBatchRequestEntry{Id: &e.ID, Message: &e.Body, MessageAttributes: make(map[string]types.MessageAttributeValue, len(e.Attributes))}
	for name, value := range e.Attributes {
		entry.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
	}
	if e.Group != "" {
		entry.MessageGroupId, entry.MessageDeduplicationId = &e.Group, &e.Deduplication
	}
	return entry
}
