package watermill

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

const (
	outboxTopic = "outbox" // the topic of envelopes: tables watermill_outbox and watermill_offsets_outbox
	fillRows    = 1000     // rows of one INSERT when the backlog is made
)

// settings are what differs from Watermill's defaults; 0 is the default.
type settings struct {
	PollInterval time.Duration
	BatchSize    int
	Channels     int // of AMQP, kept open
}

func (s settings) schema() sql.SchemaAdapter {
	return sql.DefaultPostgreSQLSchema{SubscribeBatchSize: s.BatchSize}
}

// Systems are Watermill tuned and as it comes.
func Systems() []system.System {
	return []system.System{
		&peer{"watermill tuned", settings{PollInterval: time.Millisecond, BatchSize: 1000, Channels: 4}},
		&peer{"watermill", settings{}},
	}
}

type peer struct {
	name     string
	settings settings
}

var (
	_ system.System = (*peer)(nil)
	_ system.Tables = (*peer)(nil)
)

func (w *peer) Name() string { return w.name }

func (w *peer) Supports(to system.Destination) bool {
	return to.NATS != "" || publishers[to.Bridge.Kind] != nil
}

func (w *peer) Tables() []string { return []string{"public.watermill%"} }

func (w *peer) Install(ctx context.Context, p system.Place) (err error) {
	db, err := stdsql.Open("pgx", p.Database)
	if err != nil {
		return fmt.Errorf("install Watermill: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	subscriber, err := newSubscriber(db, w.settings)
	if err == nil {
		err = errors.Join(subscriber.SubscribeInitialize(outboxTopic), subscriber.Close())
	}
	if err != nil {
		return fmt.Errorf("install Watermill: %w", err)
	}
	return nil
}

// Enqueue takes one publisher per transaction, as documented. Messages of one topic that follow each other go in together.
func (w *peer) Enqueue(ctx context.Context, tx pgx.Tx, messages []system.Message) error {
	publisher, err := w.publisher(executor{ctx, tx})
	if err != nil {
		return err
	}
	for len(messages) > 0 {
		topic, same := messages[0].Topic, 1
		for same < len(messages) && messages[same].Topic == topic {
			same++
		}
		batch := make([]*message.Message, same)
		for i, m := range messages[:same] {
			batch[i] = message.NewMessage(watermill.NewUUID(), m.Payload())
		}
		if err := publisher.Publish(topic, batch...); err != nil {
			return err
		}
		messages = messages[same:]
	}
	return nil
}

func (w *peer) Fill(ctx context.Context, conn *pgx.Conn, n int) error {
	batch := make([]system.Message, 0, fillRows)
	for from := 1; from <= n; from += fillRows {
		batch = batch[:0]
		for i := from; i < from+fillRows && i <= n; i++ {
			batch = append(batch, system.Message{N: int64(i), Topic: fillTopic})
		}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return w.Enqueue(ctx, tx, batch) })
		if err != nil {
			return fmt.Errorf("fill Watermill's table: %w", err)
		}
	}
	return nil
}

// fillTopic is the subject of the backlog.
const fillTopic = "bench.t1"

func (w *peer) publisher(db sql.ContextExecutor) (message.Publisher, error) {
	p, err := sql.NewPublisher(db, sql.PublisherConfig{SchemaAdapter: w.settings.schema()}, nil)
	if err != nil {
		return nil, err
	}
	return forwarder.NewPublisher(p, forwarder.PublisherConfig{ForwarderTopic: outboxTopic}), nil
}

func (w *peer) Start(ctx context.Context, p system.Place) (system.Process, error) {
	if !w.Supports(p.To) {
		return nil, errors.New("start " + w.name + ": it does not deliver there")
	}
	order, err := json.Marshal(forwardOrder{Database: p.Database, To: p.To, Settings: w.settings})
	if err != nil {
		return nil, err
	}
	return child.Start(ctx, child.Spec{
		Name: w.name, Cmd: child.Command(context.WithoutCancel(ctx), childName, string(order)),
		Log: filepath.Join(p.Dir, "watermill.log"), AwaitReady: true,
	})
}
