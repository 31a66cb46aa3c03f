package snssink

import (
	"cmp"
	"context"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/postrider/postrider/sinks/internal/amazon"
)

// Destination is Amazon SNS. All settings that only it has are those of amazon.Options.
var Destination = amazon.Service{
	Name:        "Amazon SNS",
	Scheme:      "sns",
	Example:     "sns:arn:aws:sns:eu-central-1:123456789012:orders",
	ReplayNote:  "A standard topic passes on what is replayed once more, with the same message_id. A FIFO topic drops what it has had within the last five minutes, and says that it has it.",
	Resource:    "topic",
	LongestName: 256,
	Client:      newClient,
}.Destination()

// client publishes to one topic.
type client struct {
	*sns.Client
	arn string
}

func newClient(topic amazon.Resource, endpoint *string, link *amazon.Connection) amazon.Client {
	options := sns.Options{Region: topic.Region, Credentials: link, HTTPClient: link, Retryer: aws.NopRetryer{}, BaseEndpoint: endpoint}
	return &client{sns.New(options), topic.ARN("sns")}
}

// MaxMessageBytes implements amazon.Client.
func (c *client) MaxMessageBytes(ctx context.Context) (string, error) {
	answer, err := c.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &c.arn})
	if err != nil {
		return "", err
	}
	return cmp.Or(answer.Attributes["MaximumMessageSize"], strconv.Itoa(amazon.DefaultMaxMessageBytes)), nil
}

// Send implements amazon.Client.
func (c *client) Send(ctx context.Context, entries []amazon.Entry) (map[string]error, error) {
	request := &sns.PublishBatchInput{TopicArn: &c.arn}
	for _, e := range entries {
		request.PublishBatchRequestEntries = append(request.PublishBatchRequestEntries, entryOf(e))
	}
	answer, err := c.PublishBatch(ctx, request)
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
