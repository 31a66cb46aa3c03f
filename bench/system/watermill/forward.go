package watermill

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

const childName = "watermill"

func init() {
	child.Register(childName, func(args []string) {
		ctx, cancel := child.Context()
		defer cancel()
		child.Fatal(forward(ctx, args))
	})
}

// forwardOrder is what the bench tells the forwarder's process.
type forwardOrder struct {
	Database string
	To       system.Destination
	Settings settings
}

func newSubscriber(db *stdsql.DB, s settings) (*sql.Subscriber, error) {
	return sql.NewSubscriber(db, sql.SubscriberConfig{
		SchemaAdapter:  s.schema(),
		OffsetsAdapter: sql.DefaultPostgreSQLOffsetsAdapter{},
		PollInterval:   s.PollInterval,
	}, nil)
}

// forward runs the forwarder until ctx ends.
func forward(ctx context.Context, args []string) (err error) {
	if len(args) != 1 {
		return fmt.Errorf("forward with Watermill: %d arguments instead of 1", len(args))
	}
	var order forwardOrder
	if err := json.Unmarshal([]byte(args[0]), &order); err != nil {
		return fmt.Errorf("forward with Watermill: %w", err)
	}
	db, err := stdsql.Open("pgx", order.Database)
	if err != nil {
		return fmt.Errorf("forward with Watermill: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	subscriber, err := newSubscriber(db, order.Settings)
	if err != nil {
		return fmt.Errorf("forward with Watermill: %w", err)
	}
	publisher, err := publisherTo(order.To, order.Settings)
	if err != nil {
		return fmt.Errorf("forward with Watermill: %w", err)
	}
	f, err := forwarder.NewForwarder(subscriber, publisher, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: outboxTopic})
	if err != nil {
		return fmt.Errorf("forward with Watermill: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.Run(context.WithoutCancel(ctx)) }()
	select {
	case <-f.Running():
		child.Ready()
	case err := <-ended:
		return fmt.Errorf("forward with Watermill: %w", err)
	}
	select {
	case err := <-ended:
		return fmt.Errorf("forward with Watermill: the forwarder ended by itself (%v)", err)
	case <-ctx.Done():
	}
	return errors.Join(f.Close(), <-ended, publisher.Close())
}
