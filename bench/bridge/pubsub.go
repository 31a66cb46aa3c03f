package bridge

import (
	"context"
	"fmt"
	"strings"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
)

const (
	pubsubChild = "pubsub"
	pubsubTopic = "projects/project-1/topics/bench"
)

func init() {
	child.Register(pubsubChild, func(args []string) { child.Fatal(serve(args[0], servePubsub)) })
}

// noticing is a pstest.Reactor that takes down what is published.
type noticing struct{ arrivals *env.Arrivals }

// React implements pstest.Reactor.
func (n noticing) React(request any) (handled bool, answer any, err error) {
	for _, m := range request.(*pubsubpb.PublishRequest).Messages {
		note(n.arrivals, m.Data)
	}
	return false, nil, nil
}

func servePubsub(a *env.Arrivals) (address string, stop func(), err error) {
	s := pstest.NewServer(pstest.ServerReactorOption{FuncName: "Publish", Reactor: noticing{a}})
	if _, err := s.GServer.CreateTopic(context.Background(), &pubsubpb.Topic{Name: pubsubTopic}); err != nil {
		return "", nil, err
	}
	return "http://" + s.Addr, func() { _ = s.Close() }, nil
}

func startPubsub(_ context.Context, dir string) (Server, error) {
	return &served{name: pubsubChild, dir: dir}, nil
}

func pubsubSink(at string) Sink {
	return Sink{URL: "pubsub://project-1/bench", Options: map[string]any{"endpoint": at}}
}

// pubsubLoop publishes with the client of the API, as the sink does.
func pubsubLoop(ctx context.Context, o order) (*batches, error) {
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(o.at, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	client, err := pubsub.NewTopicAdminClient(ctx, option.WithGRPCConn(conn))
	if err != nil {
		return nil, err
	}
	send := func(ctx context.Context, batch []item) error {
		request := &pubsubpb.PublishRequest{Topic: pubsubTopic}
		for _, m := range batch {
			request.Messages = append(request.Messages, &pubsubpb.PubsubMessage{Data: m.payload, Attributes: pubsubAttributes(m.id, o.attributes)})
		}
		answer, err := client.Publish(ctx, request)
		if err == nil && len(answer.MessageIds) != len(batch) {
			err = fmt.Errorf("%d of %d messages were taken", len(answer.MessageIds), len(batch))
		}
		return err
	}
	return newBatches(ctx, o, 100, conn.Close, same(4, send)...), nil
}

func pubsubAttributes(id string, all bool) map[string]string {
	if !all {
		return map[string]string{"ce-id": id}
	}
	return map[string]string{"ce-id": id, "ce-specversion": "1.0", "ce-source": source, "ce-type": topic, "ce-time": created(),
		"postrider-subscription": subscription, "postrider-attempt": "1", "Content-Type": mediaType}
}
