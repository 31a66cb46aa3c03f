package amazontest

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/postrider/postrider/sinks/sinktest"
)

// Moto starts another implementation of the services, where it is installed.
func Moto(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("NOT TESTED, moto: `pip install 'moto[server]'` installs it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-H", "127.0.0.1", "-p", port)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		log.Close()
	})
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(3 * sinktest.Patience); ; {
		answer, err := client.Get("http://" + address + "/moto-api/data.json")
		if err == nil {
			answer.Body.Close()
			return address
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("moto does not answer: %v\n%s", err, text)
		}
	}
}

// Consumer takes messages out of a queue of SQS.
type Consumer struct {
	t      *testing.T
	client *sqs.Client
	url    *string
	got    []Message
}

// NewConsumer makes the queue.
func NewConsumer(t *testing.T, address, queue string, attributes map[string]string) *Consumer {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := &Consumer{t: t, client: sqs.New(sqs.Options{Region: "eu-central-1", BaseEndpoint: aws.String("http://" + address),
		Credentials: credentials.NewStaticCredentialsProvider(AccessKeyID, SecretAccessKey, ""), HTTPClient: &http.Client{Transport: transport}})}
	made, err := c.client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &queue, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	c.url = made.QueueUrl
	return c
}

// Received returns all that it has had so far.
func (c *Consumer) Received() []sinktest.Received {
	for {
		answer, err := c.client.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: c.url, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}})
		if err != nil {
			c.t.Fatal(err)
		}
		if len(answer.Messages) == 0 {
			return Received(c.t, c.got)
		}
		for _, m := range answer.Messages {
			one := Message{Body: *m.Body, Attributes: map[string]string{}}
			for name, a := range m.MessageAttributes {
				one.Attributes[name] = *a.StringValue
			}
			c.got = append(c.got, one)
			if _, err := c.client.DeleteMessage(context.Background(), &sqs.DeleteMessageInput{QueueUrl: c.url, ReceiptHandle: m.ReceiptHandle}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}
