package sqssink

import (
	"context"
	"errors"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon"
)

// Destination is Amazon SQS, and what speaks its JSON protocol. All settings that only it has are those of amazon.Options.
var Destination = amazon.Service{
	Name:        "Amazon SQS",
	Scheme:      "sqs",
	Example:     "sqs://orders?region=eu-central-1",
	ReplayNote:  "A standard queue gets what is replayed once more, with the same message_id. A FIFO queue drops what it has had within the last five minutes, and says that it has it.",
	Resource:    "queue",
	LongestName: 80,
	Client:      newClient,
}.Destination()

// client sends to one queue.
type client struct {
	*sqs.Client
	queue amazon.Resource

	mu  sync.Mutex
	url string // of the queue; empty: to be asked for
}

func newClient(queue amazon.Resource, endpoint *string, link *amazon.Connection) amazon.Client {
	options := sqs.Options{Region: queue.Region, Credentials: link, HTTPClient: link, Retryer: aws.NopRetryer{}, BaseEndpoint: endpoint}
	return &client{Client: sqs.New(options), queue: queue}
}

// MaxMessageBytes implements amazon.Client.
func (c *client) MaxMessageBytes(ctx context.Context) (string, error) {
	url, err := c.queueURL(ctx)
	if err != nil {
		return "", err
	}
	const name = types.QueueAttributeNameMaximumMessageSize
	answer, err := c.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{name}})
	if err != nil {
		return "", err
	}
	return answer.Attributes[string(name)], nil
}

// queueURL is where the queue is. Several may ask at once: each gets the same answer.
func (c *client) queueURL(ctx context.Context) (string, error) {
	c.mu.Lock()
	known := c.url
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	question := &sqs.GetQueueUrlInput{QueueName: &c.queue.Name}
	if c.queue.Account != "" {
		question.QueueOwnerAWSAccountId = &c.queue.Account
	}
	answer, err := c.GetQueueUrl(ctx, question)
	if err != nil {
		if kind, _ := sinks.Classify(amazon.Outcome(err)); kind == sinks.KindPermanent { // no message is to blame
			err = sinks.Misconfigured(err)
		}
		return "", err
	}
	c.know(aws.ToString(answer.QueueUrl))
	if aws.ToString(answer.QueueUrl) == "" {
		return "", errors.New("the server says no URL of the queue")
	}
	return *answer.QueueUrl, nil
}

func (c *client) know(url string) {
	c.mu.Lock()
	c.url = url
	c.mu.Unlock()
}

// Send implements amazon.Client.
func (c *client) Send(ctx context.Context, entries []amazon.Entry) (map[string]error, error) {
	url, err := c.queueURL(ctx)
	if err != nil {
		return nil, amazon.Outcome(err)
	}
	request := &sqs.SendMessageBatchInput{QueueUrl: &url}
	for _, e := range entries {
		request.Entries = append(request.Entries, entryOf(e))
	}
	answer, err := c.SendMessageBatch(ctx, request)
	if err != nil {
		if _, gone := errors.AsType[*types.QueueDoesNotExist](err); gone {
			c.know("") // one that is made again may be elsewhere
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
