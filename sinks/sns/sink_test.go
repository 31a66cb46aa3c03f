package snssink

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/amazontest"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a server, a network that can fail, and sinks that go through it.
type scene struct {
	*amazontest.Server
	t    *testing.T
	link *linktest.InTest
}

func newScene(t *testing.T, topics ...string) *scene {
	t.Helper()
	t.Setenv("POSTRIDER_SECRET_KEY", amazontest.SecretAccessKey)
	server := amazontest.New(t, topics...)
	return &scene{Server: server, t: t, link: linktest.New(t, server.Listener.Addr().String())}
}

func arn(topic string) string { return "arn:aws:sns:eu-central-1:123456789012:" + topic }

func (s *scene) target(topic, more string) sinks.Target {
	options := fmt.Sprintf(`{"endpoint": "http://%s", "access_key_id": "%s", "secret_access_key": "env:POSTRIDER_SECRET_KEY"%s}`, s.link.Addr(), amazontest.AccessKeyID, more)
	return sinks.Target{URL: "sns:" + arn(topic), Options: json.RawMessage(options)}
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

func batchOf(n int) (list []sinks.Delivery) {
	for i := range n {
		list = append(list, sinktest.NewDelivery("orders.created", fmt.Sprintf(`{"n": %d}`, i)))
	}
	return list
}

func TestConformance(t *testing.T) {
	for _, topic := range []string{"orders", "orders.fifo"} {
		t.Run(topic, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
				s := newScene(t, topic)
				return &sinktest.Harness{
					Open:     func(t testing.TB) sinks.Sink { return open(t, s.target(topic, "")) },
					Received: func() []sinktest.Received { return amazontest.Received(t, s.Taken()) }, TooLarge: 256<<10 + 1, NoAttempt: true,
					Down: s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
				}
			})
		})
	}
}

// TestMoto is the suite against an implementation that is not ours: a queue that gets the messages raw is subscribed.
func TestMoto(t *testing.T) {
	address := amazontest.Moto(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	topics := sns.New(sns.Options{Region: "eu-central-1", BaseEndpoint: aws.String("http://" + address), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(amazontest.AccessKeyID, amazontest.SecretAccessKey, "")})
	n := 0
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		t.Setenv("POSTRIDER_SECRET_KEY", amazontest.SecretAccessKey)
		n++
		name := fmt.Sprintf("t%d", n)
		s := &scene{t: t, link: linktest.New(t, address)}
		c := amazontest.NewConsumer(t, address, name, nil)
		made, err := topics.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &name})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := topics.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: made.TopicArn, Protocol: aws.String("sqs"), Endpoint: aws.String("arn:aws:sqs:eu-central-1:123456789012:" + name),
			Attributes: map[string]string{"RawMessageDelivery": "true"}}); err != nil {
			t.Fatal(err)
		}
		return &sinktest.Harness{
			Open: func(t testing.TB) sinks.Sink {
				target := s.target(name, "")
				target.Lanes, target.Batch = 1, 3 // it is slow
				return open(t, target)
			},
			Received: c.Received, TooLarge: 256<<10 + 1, NoAttempt: true,
			Down: s.link.Down, Hang: s.link.Hang, Up: s.link.Up,
		}
	})
}

// On a FIFO topic the key is the group, and the message id says what is repeated, as when an answer got lost.
func TestFIFO(t *testing.T) {
	s := newScene(t, "orders.fifo")
	sink := s.to(s.target("orders.fifo", ""))
	batch := batchOf(2)
	batch[0].Key = "customer-7"
	s.Fail(func(string, []string) *amazontest.Fault {
		return &amazontest.Fault{Status: 500, Code: "InternalError", Take: true}
	})
	sinktest.WantKinds(t, s.deliver(sink, batch...), sinks.KindUnavailable, sinks.KindUnavailable)
	s.Fail(nil)
	sinktest.WantKinds(t, s.deliver(sink, batch...), sinks.KindAccepted, sinks.KindAccepted)
	got := s.Taken()
	if len(got) != 2 || got[0].Group != "customer-7" || got[1].Group != batch[1].MessageID || got[0].Deduplication != batch[0].MessageID {
		t.Errorf("took %+v", got)
	}
}

// Each entry of an answer counts for its own message, and a request that is refused for one of them is sent again one by one.
func TestOneErrorWithinABatch(t *testing.T) {
	s := newScene(t, "orders")
	sink := s.to(s.target("orders", ""))
	batch := batchOf(3)
	for _, c := range []struct {
		fault amazontest.Fault
		kind  sinks.Kind
		words string
	}{
		{amazontest.Fault{Code: "InvalidParameter", Message: "no & never"}, sinks.KindPermanent, "InvalidParameter: no & never"},
		{amazontest.Fault{Code: "Throttled", ServerFault: true}, sinks.KindUnavailable, "Throttled"},
		{amazontest.Fault{Code: "SomethingNew"}, sinks.KindRetryable, "SomethingNew"},
		{amazontest.Fault{Silent: true}, sinks.KindRetryable, "says nothing"},
	} {
		c.fault.Entry = batch[1].MessageID
		s.Fail(func(string, []string) *amazontest.Fault { return &c.fault })
		got := s.deliver(sink, batch...)
		sinktest.WantKinds(t, got, sinks.KindAccepted, c.kind, sinks.KindAccepted)
		sinktest.WantText(t, got[1], c.kind, c.words)
	}
	s.Fail(func(_ string, ids []string) *amazontest.Fault {
		if slices.Contains(ids, batch[2].MessageID) {
			return &amazontest.Fault{Code: "InvalidParameterValue", Message: "not this one"}
		}
		return nil
	})
	got := s.deliver(sink, batch...)
	sinktest.WantKinds(t, got, sinks.KindAccepted, sinks.KindAccepted, sinks.KindPermanent)
	sinktest.WantText(t, got[2], sinks.KindPermanent, "not this one")
}

// What a request ends with is told apart: what somebody has to change, and what passes.
func TestRequestErrors(t *testing.T) {
	s := newScene(t, "orders")
	target := s.target("orders", "")
	sink := s.to(target)
	for _, c := range []struct {
		fault amazontest.Fault
		kind  sinks.Kind
		words string
	}{
		{amazontest.Fault{Status: 429, Code: "Throttled", Message: "Rate exceeded"}, sinks.KindUnavailable, "Throttled: Rate exceeded"},
		{amazontest.Fault{Code: "Throttling"}, sinks.KindUnavailable, ""},
		{amazontest.Fault{Code: "KMSThrottling"}, sinks.KindUnavailable, ""},
		{amazontest.Fault{Status: 500, Code: "InternalError"}, sinks.KindUnavailable, ""},
		{amazontest.Fault{Status: 403, Code: "AuthorizationError", Message: "sns:Publish"}, sinks.KindMisconfigured, "permissions"},
		{amazontest.Fault{Code: "KMSAccessDenied"}, sinks.KindMisconfigured, ""},
		{amazontest.Fault{Status: 404, Code: "NotFound"}, sinks.KindMisconfigured, "create it"},
		{amazontest.Fault{Status: 403, Code: "ExpiredToken"}, sinks.KindMisconfigured, "expired"},
	} {
		s.Fail(func(string, []string) *amazontest.Fault { return &c.fault })
		got := s.deliver(sink, batchOf(2)...)
		sinktest.WantKinds(t, got, c.kind, c.kind)
		sinktest.WantText(t, got[0], c.kind, c.words)
	}
	s.Fail(nil)
	target.Timeout = 300 * time.Millisecond
	short := s.to(target)
	s.link.Hang()
	sinktest.WantText(t, s.deliver(short, batchOf(1)...)[0], sinks.KindUnavailable, "no answer in time")
	s.link.Up()
	sinktest.WantKinds(t, s.deliver(sink, batchOf(1)...), sinks.KindAccepted)
}

// What is set up wrong waits, says what to change, and is found by the doctor, who sends nothing.
func TestSetup(t *testing.T) {
	s := newScene(t, "orders")
	t.Setenv("POSTRIDER_SECRET_W", "wrong-one")
	good := s.target("orders", "")
	secret := sinks.Target{URL: good.URL, Options: []byte(strings.Replace(string(good.Options), "SECRET_KEY", "SECRET_W", 1))}
	for words, target := range map[string]sinks.Target{
		"create it": s.target("other", ""), "secret_access_key is wrong": secret, "options.guard.allow": s.target("orders", `, "guard": {"deny": ["127.0.0.0/8"]}`),
	} {
		sinktest.WantText(t, s.deliver(s.to(target), batchOf(1)...)[0], sinks.KindMisconfigured, words)
		err := Destination.Examine(t.Context(), target)
		if _, unfit := errors.AsType[*sinks.UnfitError](err); !unfit {
			t.Errorf("%s: examined: %v, want an UnfitError", words, err)
		}
	}
	if err := Destination.Examine(t.Context(), good); err != nil {
		t.Errorf("examined: %v", err)
	}
	s.Takes(1024)
	if u, ok := errors.AsType[*sinks.UnfitError](Destination.Examine(t.Context(), good)); !ok || !u.Risk {
		t.Errorf("examined a topic that takes less: %v", u)
	}
	s.Fail(func(string, []string) *amazontest.Fault {
		return &amazontest.Fault{Status: 403, Code: "AuthorizationError"}
	})
	if err := Destination.Examine(t.Context(), good); err != nil {
		t.Errorf("examined by who may not ask: %v", err)
	}
	if n := len(s.Taken()); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// What is wrong with a target is said with the setting, and what would be right.
func TestBadTargets(t *testing.T) {
	for _, c := range []struct{ url, options, want string }{
		{"sns://orders?region=eu-central-1", "", "sns:arn:aws"}, {"sns:orders", "", "ARN"}, {"sns:arn:aws:sqs:eu-central-1:123456789012:orders", "", "arn:aws:sns"},
		{"sns:" + arn("or ders"), "", "letters, digits"}, {"sns:" + arn("orders") + "?region=eu-central-1", "", "beside the ARN"}, {"sns:" + arn(strings.Repeat("x", 257)), "", "at most 256"},
		{"sns:" + arn("orders"), `{"max_message_bytes": 2000000}`, "1048576"}, {"sns:" + arn("orders"), `{"access_key_id": "x"}`, "takes both"},
	} {
		if err := Destination.Check(sinks.Target{URL: c.url, Options: []byte(c.options)}, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q in it", c.url, c.options, err, c.want)
		}
	}
	if err := Destination.Check(sinks.Target{URL: "sns:" + arn("orders.fifo")}, nil); err != nil {
		t.Error(err)
	}
}
