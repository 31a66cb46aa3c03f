package pubsubsink

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

// Destination is Google Cloud Pub/Sub.
var Destination = sinks.Destination{
	Name:       "Google Pub/Sub",
	Schemes:    []string{"pubsub"},
	Example:    "pubsub://project/topic",
	Options:    Options{},
	ReplayNote: "Pub/Sub delivers what is replayed once more, with the same ce-id.",
	Check:      check,
	Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
		s, err := newSink(t, with)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
	Examine: examine,
}

func check(t sinks.Target, secrets *secret.Store) error {
	c, err := parse(t)
	if err != nil || secrets == nil {
		return err
	}
	l, err := c.connect(nil, secrets, nil)
	if err != nil {
		return err
	}
	_, err = c.TLS.Config("a.example", l.secrets)
	return errors.Join(err, l.conn.Close())
}

const examineTimeout = 10 * time.Second

// permission is what publishing takes.
const permission = "pubsub.topics.publish"

// examine asks whether we may publish, which needs no permission, and then for the topic. It publishes nothing.
func examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := newSink(t, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	may, err := s.client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: s.topic, Permissions: []string{permission}}, once)
	switch code := status.Code(err); {
	case err == nil && !slices.Contains(may.Permissions, permission):
		return &sinks.UnfitError{Text: "the identity has no permission " + permission + " on the topic, or there is no such topic", Remedy: "give it the role Pub/Sub Publisher on the topic"}
	case err != nil && code != codes.Unimplemented && code != codes.PermissionDenied: // emulators have no permissions
		return unfit(sinks.RedactOutcome(&s.secrets.Redactor, s.outcomeOf(err)))
	}
	_, err = s.client.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: s.topic}, once)
	if err == nil || status.Code(err) == codes.PermissionDenied {
		return nil // what may not be asked is not known
	}
	return unfit(sinks.RedactOutcome(&s.secrets.Redactor, s.outcomeOf(err)))
}

// unfit makes what somebody has to change a sinks.UnfitError.
func unfit(outcome error) error {
	if kind, _ := sinks.Classify(outcome); kind != sinks.KindMisconfigured {
		return outcome
	}
	return &sinks.UnfitError{Text: outcome.Error(), Remedy: "change it there, or in the subscription"}
}
