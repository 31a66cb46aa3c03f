package sqssink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
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
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/amazon/amazontest"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a server, a network that can fail, and sinks that go through it.
type scene struct {
	*amazontest.Server
	t    *testing.T
	link *linktest.InTest
}

func newScene(t *testing.T, queues ...string) *scene {
	t.Helper()
	t.Setenv("POSTRIDER_SECRET_KEY", amazontest.SecretAccessKey)
	server := amazontest.New(t, queues...)
	return &scene{Server: server, t: t, link: linktest.New(t, server.Listener.Addr().String())}
}

// target is a queue of the server; more are options beside the credentials.
func (s *scene) target(queue, more string) sinks.Target {
	options := fmt.Sprintf(`{"endpoint": "http://%s", "access_key_id": "%s", "secret_access_key": "env:POSTRIDER_SECRET_KEY"%s}`, s.link.Addr(), amazontest.AccessKeyID, more)
	return sinks.Target{URL: "sqs://" + queue + "?region=eu-central-1", Options: json.RawMessage(options)}
}

func open(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), target, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func (s *scene) to(target sinks.Target) sinks.Sink {
	s.t.Helper()
	sink := open(s.t, target)
	s.t.Cleanup(func() { sink.Close() })
	return sink
}

func (s *scene) deliver(sink sinks.Sink, batch ...sinks.Delivery) []error {
	return sinktest.Deliver(s.t.Context(), sink, batch...)
}

// received is what the queues have taken.
func (s *scene) received() []sinktest.Received { return amazontest.Received(s.t, s.Taken()) }

func TestConformance(t *testing.T) {
	for _, queue := range []string{"orders", "orders.fifo"} {
		t.Run(queue, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
				s := newScene(t, queue)
				return &sinktest.Harness{
					Open:     func(t testing.TB) sinks.Sink { return open(t, s.target(queue, "")) },
					Received: s.received, TooLarge: 256<<10 + 1, NoAttempt: true,
					Down: s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
				}
			})
		})
	}
}

// moto is another implementation of SQS, where it is installed.
func moto(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("NOT TESTED, SQS of moto: `pip install 'moto[server]'` installs it")
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

// consumer takes messages out of a queue.
type consumer struct {
	t      *testing.T
	client *sqs.Client
	url    *string
	got    []amazontest.Message
}

func newConsumer(t *testing.T, address, queue string, attributes map[string]string) *consumer {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := &consumer{t: t, client: sqs.New(sqs.Options{Region: "eu-central-1", BaseEndpoint: aws.String("http://" + address),
		Credentials: credentials.NewStaticCredentialsProvider(amazontest.AccessKeyID, amazontest.SecretAccessKey, ""), HTTPClient: &http.Client{Transport: transport}})}
	made, err := c.client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &queue, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	c.url = made.QueueUrl
	return c
}

func (c *consumer) received() []sinktest.Received {
	for {
		answer, err := c.client.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: c.url, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}})
		if err != nil {
			c.t.Fatal(err)
		}
		if len(answer.Messages) == 0 {
			return amazontest.Received(c.t, c.got)
		}
		for _, m := range answer.Messages {
			one := amazontest.Message{Body: *m.Body, Attributes: map[string]string{}}
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

// TestMoto is the suite against an implementation that is not ours.
func TestMoto(t *testing.T) {
	address := moto(t)
	for kind, attributes := range map[string]map[string]string{"": nil, ".fifo": {"FifoQueue": "true"}} {
		t.Run("queue"+kind, func(t *testing.T) {
			n := 0
			sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
				t.Setenv("POSTRIDER_SECRET_KEY", amazontest.SecretAccessKey)
				n++
				queue := fmt.Sprintf("q%d%s", n, kind)
				s := &scene{t: t, link: linktest.New(t, address)}
				c := newConsumer(t, address, queue, attributes)
				return &sinktest.Harness{
					Open: func(t testing.TB) sinks.Sink {
						target := s.target(queue, "")
						target.Lanes, target.Batch = 1, 3 // it is slow
						return open(t, target)
					},
					Received: c.received, TooLarge: 256<<10 + 1, NoAttempt: true,
					Down: s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
				}
			})
		})
	}
}
