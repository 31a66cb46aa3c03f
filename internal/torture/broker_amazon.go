package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/amazontest"
)

// secretVariable is where relays find the secret that the server of SQS and SNS knows.
const secretVariable = "POSTRIDER_SECRET_CHECKER"

const standsForAmazon = "a server in the checker's process stands for it, which keeps its documented limits and is not killed"

// The queue is a FIFO one: messages of a key are in order, and what is sent again under one id within minutes is there once.
var sqsKind = &brokerKind{name: "sqs", about: "a FIFO queue; " + standsForAmazon, hits: onSQS, once: true,
	find:   func() (string, error) { return "", nil },
	start:  startAmazon("sqs://all.fifo?region=eu-central-1&endpoint=", "all.fifo"),
	faults: amazonFaults("sqs")}

// The topic is a standard one, which promises no order and has what is sent again.
var snsKind = &brokerKind{name: "sns", about: "a standard topic; " + standsForAmazon, hits: onSNS, unordered: true,
	find:   func() (string, error) { return "", nil },
	start:  startAmazon("sns:arn:aws:sns:eu-central-1:123456789012:all?endpoint=", "all"),
	faults: amazonFaults("sns")}

// amazon is a server with one queue or topic.
type amazon struct {
	server *amazontest.Server
	url    string // without the address
}

func startAmazon(url, name string) func(string, *world, *book) (broker, error) {
	return func(_ string, _ *world, b *book) (broker, error) {
		a := &amazon{amazontest.Start(name), url}
		a.server.Notice(func(m amazontest.Message) {
			b.enter([]byte(m.Body), m.Attributes["message_id"], time.Now(), name)
		})
		return a, nil
	}
}

func (a *amazon) addr() string { return a.server.Listener.Addr().String() }

func (a *amazon) sink(addr string) (url, options string) {
	return a.url + "http://" + addr, fmt.Sprintf(`{"access_key_id": %q, "secret_access_key": "env:%s"}`, amazontest.AccessKeyID, secretVariable)
}

// catchUp has nothing to do: what is taken is in the book at once.
func (a *amazon) catchUp(context.Context) error { return nil }

func (a *amazon) stop() error {
	a.server.Close()
	return nil
}

// amazonFaults are those of a queue or topic. What is taken and answered with an error may come again.
func amazonFaults(name string) []*Fault {
	title, who := strings.ToUpper(name), []string{name}
	return []*Fault{
		{Name: name + "-throttled", About: title + " answers that it is asked too often",
			Inject: failing(name, func([]string) *amazontest.Fault { return &amazontest.Fault{Code: "ThrottlingException"} })},
		{Name: name + "-broken", About: title + " takes what is sent, and answers with an error", Repeats: who,
			Inject: failing(name, func([]string) *amazontest.Fault {
				return &amazontest.Fault{Status: 503, Code: "ServiceUnavailable", Take: true}
			})},
		{Name: name + "-partial", About: title + " fails one entry of each batch",
			Inject: failing(name, func(ids []string) *amazontest.Fault {
				return &amazontest.Fault{Entry: ids[0], Code: "InternalError", ServerFault: true}
			})},
		{Name: name + "-deaf", About: "what " + title + " says does not arrive: messages without an answer", Repeats: who, Inject: deaf(name)},
	}
}

// failing has requests that send something fail for a while.
func failing(name string, fault func(ids []string) *amazontest.Fault) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, rng *rand.Rand) error {
		a, ok := w.brokers.running[name].(*amazon)
		if !ok {
			return fmt.Errorf("the round has no %s", name)
		}
		a.server.Fail(func(_ string, ids []string) *amazontest.Fault {
			if len(ids) == 0 {
				return nil
			}
			return fault(ids)
		})
		pause(ctx, span(rng, 100*time.Millisecond, 2*time.Second))
		a.server.Fail(nil)
		return nil
	}
}
