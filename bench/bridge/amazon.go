package bridge

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/internal/amazontest"
)

const (
	amazonChild  = "amazon"
	amazonRegion = "eu-central-1"
	amazonName   = "bench" // of the queue, and of the topic
	amazonTopic  = "arn:aws:sns:" + amazonRegion + ":123456789012:" + amazonName
	amazonBatch  = 10
	amazonLanes  = 4
)

func init() {
	child.Register(amazonChild, func(args []string) { child.Fatal(serve(args[0], serveAmazon)) })
}

// serveAmazon runs a server that is a queue and a topic.
func serveAmazon(a *env.Arrivals) (address string, stop func(), err error) {
	s := amazontest.Start(amazonName)
	s.Notice(func(m amazontest.Message) { note(a, []byte(m.Body)) })
	return s.URL, s.Close, nil
}

func startAmazon(_ context.Context, dir string) (Server, error) {
	return &served{name: amazonChild, dir: dir}, nil
}

func sqsSink(at string) Sink { return amazonSink("sqs://"+amazonName+"?region="+amazonRegion, at) }

func snsSink(at string) Sink { return amazonSink("sns:"+amazonTopic, at) }

func amazonSink(url, at string) Sink {
	const variable = "POSTRIDER_SECRET_AMAZON"
	return Sink{URL: url, Env: []string{variable + "=" + amazontest.SecretAccessKey},
		Options: map[string]any{"endpoint": at, "access_key_id": amazontest.AccessKeyID, "secret_access_key": "env:" + variable}}
}

func amazonKeys() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(amazontest.AccessKeyID, amazontest.SecretAccessKey, "")
}

// amazonAttributes are those of a message, by name.
func amazonAttributes(id string, all bool) map[string]string {
	if !all {
		return map[string]string{"message_id": id}
	}
	return map[string]string{"message_id": id, "topic": topic, "created_at": created(), "content_type": mediaType}
}

func sqsLoop(ctx context.Context, o order) (*batches, error) {
	client := sqs.New(sqs.Options{Region: amazonRegion, Credentials: amazonKeys(), Retryer: aws.NopRetryer{}, BaseEndpoint: &o.at})
	answer, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(amazonName)})
	if err != nil {
		return nil, err
	}
	send := func(ctx context.Context, batch []item) error {
		request := &sqs.SendMessageBatchInput{QueueUrl: answer.QueueUrl}
		for i, m := range batch {
			attributes := map[string]sqstypes.MessageAttributeValue{}
			for name, value := range amazonAttributes(m.id, o.attributes) {
				attributes[name] = sqstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
			}
			request.Entries = append(request.Entries, sqstypes.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(string(m.payload)), MessageAttributes: attributes})
		}
		answer, err := client.SendMessageBatch(ctx, request)
		if err == nil && len(answer.Successful) != len(batch) {
			err = fmt.Errorf("%d of %d messages were taken", len(answer.Successful), len(batch))
		}
		return err
	}
	return newBatches(ctx, o, amazonBatch, nil, same(amazonLanes, send)...), nil
}

func snsLoop(ctx context.Context, o order) (*batches, error) {
	client := sns.New(sns.Options{Region: amazonRegion, Credentials: amazonKeys(), Retryer: aws.NopRetryer{}, BaseEndpoint: &o.at})
	send := func(ctx context.Context, batch []item) error {
		request := &sns.PublishBatchInput{TopicArn: aws.String(amazonTopic)}
		for i, m := range batch {
			attributes := map[string]snstypes.MessageAttributeValue{}
			for name, value := range amazonAttributes(m.id, o.attributes) {
				attributes[name] = snstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
			}
			request.PublishBatchRequestEntries = append(request.PublishBatchRequestEntries, snstypes.PublishBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), Message: aws.String(string(m.payload)), MessageAttributes: attributes})
		}
		answer, err := client.PublishBatch(ctx, request)
		if err == nil && len(answer.Successful) != len(batch) {
			err = fmt.Errorf("%d of %d messages were taken", len(answer.Successful), len(batch))
		}
		return err
	}
	return newBatches(ctx, o, amazonBatch, nil, same(amazonLanes, send)...), nil
}
