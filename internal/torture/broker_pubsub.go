package torture

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// toPubSub is the subscription's name, for faults that may repeat what it has delivered.
var toPubSub = []string{"pubsub"}

// publishErrors are what Pub/Sub answers that may pass. What is answered so was not taken.
var publishErrors = []codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.DeadlineExceeded}

var pubSubKind = &brokerKind{name: "pubsub", about: "Google's pstest in the checker's process, which speaks the protocol and keeps all in memory", hits: onPubSub,
	find: func() (string, error) { return "", nil }, start: startPubSub,
	faults: []*Fault{
		{Name: "pubsub-errors", About: "Pub/Sub answers with an error that may pass",
			Inject: hitting(func(ctx context.Context, p *pubSub, rng *rand.Rand) error {
				p.code.Store(uint32(publishErrors[rng.IntN(len(publishErrors))]))
				pause(ctx, span(rng, 100*time.Millisecond, 2*time.Second))
				p.code.Store(uint32(codes.OK))
				return nil
			})},
		{Name: "pubsub-deaf", About: "what Pub/Sub says does not arrive: messages without an answer", Repeats: toPubSub, Inject: deaf("pubsub")},
	}}

// pubSub is a server with one topic.
type pubSub struct {
	server *pstest.Server
	book   *book
	code   atomic.Uint32 // of the answers to Publish; zero: what is sent is taken
	read   int
}

func startPubSub(_ string, _ *world, b *book) (broker, error) {
	p := &pubSub{book: b}
	p.server = pstest.NewServer(pstest.ServerReactorOption{FuncName: "Publish", Reactor: p})
	_, err := p.server.GServer.CreateTopic(context.Background(), &pubsubpb.Topic{Name: "projects/checker/topics/all"})
	return p, err
}

// React answers instead of the server, where it is to fail.
func (p *pubSub) React(any) (handled bool, answer any, err error) {
	code := codes.Code(p.code.Load())
	return code != codes.OK, &pubsubpb.PublishResponse{}, status.Error(code, "for a while")
}

func (p *pubSub) addr() string { return p.server.Addr }

func (p *pubSub) sink(addr string) (url, options string) {
	return "pubsub://checker/all?endpoint=http://" + addr, ""
}

// catchUp reads what was published since.
func (p *pubSub) catchUp(context.Context) error {
	for _, m := range p.server.Messages()[p.read:] {
		p.read++
		p.book.enter(m.Data, m.Attributes["ce-id"], m.PublishTime, "the topic of Pub/Sub")
	}
	return nil
}

func (p *pubSub) stop() error { return p.server.Close() }
