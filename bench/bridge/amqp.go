package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/rabbittest"
)

// rabbitName is that of the exchange, of the kind topic, and of the queue that takes all of it.
const rabbitName = "bench"

// rabbit is a RabbitMQ.
type rabbit struct {
	ear
	server *rabbittest.Server
}

var _ Server = (*rabbit)(nil)

func startRabbit(context.Context, string) (Server, error) {
	s, err := rabbittest.Launch()
	if err != nil {
		return nil, err
	}
	return &rabbit{server: s}, nil
}

// do does something on a channel of its own.
func (r *rabbit) do(f func(c *amqp.Channel) error) error {
	c, err := r.server.Admin().Channel()
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// Fresh implements Server.
func (r *rabbit) Fresh(context.Context) (string, error) {
	r.end()
	return r.server.Addr(), r.do(func(c *amqp.Channel) error {
		_, err := c.QueueDelete(rabbitName, false, false, false)
		if err == nil {
			err = c.ExchangeDeclare(rabbitName, "topic", true, false, false, false, nil)
		}
		if err == nil {
			_, err = c.QueueDeclare(rabbitName, true, false, false, false, nil)
		}
		if err == nil {
			err = c.QueueBind(rabbitName, "#", rabbitName, false, nil)
		}
		return err
	})
}

// PIDs implements Server.
func (r *rabbit) PIDs() []int { return []int{r.server.PID()} }

// Count implements Server: while somebody listens there is nothing in the queue.
func (r *rabbit) Count(context.Context) (n int64, err error) {
	err = r.do(func(c *amqp.Channel) error {
		q, err := c.QueueDeclarePassive(rabbitName, true, false, false, false, nil)
		n = int64(q.Messages)
		return err
	})
	return n, err
}

// Listen implements Server: it takes the messages out of the queue.
func (r *rabbit) Listen(context.Context) error {
	conn, err := amqp.Dial("amqp://guest:guest@" + r.server.Addr() + "/")
	if err != nil {
		return err
	}
	c, err := conn.Channel()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	deliveries, err := c.Consume(rabbitName, "", true, false, false, false, nil)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	ended := make(chan struct{})
	a := r.listen(func() {
		_ = conn.Close() // the server may have ended it
		<-ended
	})
	go func() {
		defer close(ended)
		for d := range deliveries {
			note(a, d.Body)
		}
	}()
	return nil
}

// Stop implements Server.
func (r *rabbit) Stop() error {
	r.end()
	return r.server.End()
}

func rabbitSink(at string) Sink { return Sink{URL: "amqp://" + at + "?exchange=" + rabbitName} }

// rabbitLoop publishes over four channels of one connection: persistent, mandatory, with confirms.
func rabbitLoop(ctx context.Context, o order) (*batches, error) {
	conn, err := amqp.Dial("amqp://guest:guest@" + o.at + "/")
	if err != nil {
		return nil, err
	}
	var lanes []func(context.Context, []item) error
	for range 4 {
		c, err := conn.Channel()
		if err == nil {
			err = c.Confirm(false)
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		returned := c.NotifyReturn(make(chan amqp.Return, 256))
		lanes = append(lanes, func(ctx context.Context, batch []item) error {
			return rabbitSend(ctx, c, returned, batch, o.attributes)
		})
	}
	return newBatches(ctx, o, 256, conn.Close, lanes...), nil
}

func rabbitSend(ctx context.Context, c *amqp.Channel, returned <-chan amqp.Return, batch []item, attributes bool) error {
	waiting := make([]*amqp.DeferredConfirmation, len(batch))
	for i, m := range batch {
		p := amqp.Publishing{MessageId: m.id, DeliveryMode: amqp.Persistent, Body: m.payload}
		if attributes {
			p.Type, p.AppId, p.Timestamp, p.ContentType = topic, "postrider", time.Now(), mediaType
			p.Headers = amqp.Table{"cloudEvents_specversion": "1.0", "cloudEvents_id": m.id, "cloudEvents_source": source, "cloudEvents_type": topic,
				"cloudEvents_time": created(), "postrider-subscription": subscription, "postrider-attempt": int32(1)}
		}
		var err error
		if waiting[i], err = c.PublishWithDeferredConfirm(rabbitName, topic, true, false, p); err != nil {
			return err
		}
	}
	for _, w := range waiting {
		if ok, err := w.WaitContext(ctx); err != nil || !ok {
			return fmt.Errorf("a message has no confirm (%v)", err)
		}
	}
	select {
	case r := <-returned:
		return fmt.Errorf("a message came back: %s", r.ReplyText)
	default:
		return nil
	}
}
