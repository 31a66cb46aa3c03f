package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/rabbittest"
)

// toRabbit is the subscription's name, for faults that may repeat what it has delivered.
var toRabbit = []string{"amqp"}

var rabbitKind = &brokerKind{name: "amqp", about: "a real RabbitMQ with a durable queue, a quorum queue in every other round", hits: onRabbit,
	find: rabbittest.Find, start: startRabbit,
	faults: []*Fault{
		{Name: "amqp-kill", About: "SIGKILL to RabbitMQ, then it is started again", Repeats: toRabbit,
			Inject: hitting(func(ctx context.Context, r *rabbit, rng *rand.Rand) error {
				r.server.Kill()
				pause(ctx, span(rng, 0, 1500*time.Millisecond))
				return errors.Join(r.server.Restart(), r.listen())
			})},
		{Name: "amqp-alarm", About: "RabbitMQ has an alarm of its memory, and reads from no publisher", Unanswered: toRabbit,
			Inject: hitting(func(ctx context.Context, r *rabbit, rng *rand.Rand) error {
				err := r.server.Control("set_vm_memory_high_watermark", "absolute", "1000000")
				pause(ctx, span(rng, 300*time.Millisecond, 3*time.Second))
				return errors.Join(err, r.server.Control("set_vm_memory_high_watermark", "absolute", "2GB"))
			})},
		{Name: "amqp-deaf", About: "what RabbitMQ says does not arrive: messages without a confirm", Repeats: toRabbit, Inject: deaf("amqp")},
	}}

// rabbit is a server with a durable queue, which nobody reads before all faults are over. When something came into it, a second queue says,
// which lasts no longer than the server runs. The seed says whether it is a classic queue or a quorum queue.
type rabbit struct {
	server *rabbittest.Server
	book   *book

	listening sync.WaitGroup
	mu        sync.Mutex
	times     map[string][]time.Time // by message id, in the order of arrival
	last      time.Time              // of what the book has
	reads     *amqp.Channel          // nil: nobody reads the durable queue
	marks     int                    // messages of our own that were sent
	marked    int                    // the last one that came back
}

const rabbitExchange, rabbitQueue, rabbitMark = "all", "kept", "mark"

func startRabbit(_ string, w *world, b *book) (broker, error) {
	server, err := rabbittest.Launch()
	if err != nil {
		return nil, err
	}
	r := &rabbit{server: server, book: b, last: time.Now(), times: make(map[string][]time.Time)}
	var kind amqp.Table // classic
	if w.Seed%2 == 1 {
		kind = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
		err = server.Quorum(rabbitQueue)
	}
	if err == nil {
		err = server.Bind(rabbitExchange, rabbitQueue, kind)
	}
	if err == nil {
		err = r.listen()
	}
	if err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func (r *rabbit) addr() string { return r.server.Addr() }

func (r *rabbit) sink(addr string) (url, options string) {
	return "amqp://" + addr + "?exchange=" + rabbitExchange, ""
}

func (r *rabbit) stop() error {
	err := r.server.End()
	r.listening.Wait()
	return err
}

// listen takes down when messages come, until the server ends.
func (r *rabbit) listen() error {
	c, err := r.server.Admin().Channel()
	if err != nil {
		return err
	}
	q, err := c.QueueDeclare("", false, true, true, false, nil)
	if err == nil {
		err = c.QueueBind(q.Name, "#", rabbitExchange, false, nil)
	}
	if err != nil {
		return err
	}
	heard, err := c.Consume(q.Name, "", true, true, false, false, nil)
	if err != nil {
		return err
	}
	r.listening.Go(func() {
		for m := range heard {
			r.mu.Lock()
			r.times[m.MessageId] = append(r.times[m.MessageId], time.Now())
			r.mu.Unlock()
		}
	})
	return nil
}

// read enters what is in the durable queue, and what comes, into the book. Nobody may kill the server from now on: what is read is gone.
func (r *rabbit) read() error {
	c, err := r.server.Admin().Channel()
	if err != nil {
		return err
	}
	messages, err := c.Consume(rabbitQueue, "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	r.reads = c
	r.listening.Go(func() {
		for m := range messages {
			r.mu.Lock()
			if m.RoutingKey == rabbitMark {
				_, _ = fmt.Sscan(string(m.Body), &r.marked) // it is ours
			} else {
				r.book.enter(m.Body, m.MessageId, r.at(m.MessageId), "the queue of RabbitMQ")
			}
			r.mu.Unlock()
		}
	})
	return nil
}

// at returns when a message came. What came while nobody listened came after what is before it.
func (r *rabbit) at(wire string) time.Time {
	if list := r.times[wire]; len(list) > 0 {
		r.times[wire], r.last = list[1:], list[0]
	}
	return r.last
}

// catchUp waits for a message of our own to come out of the queue: what was before it is in the book then.
func (r *rabbit) catchUp(ctx context.Context) error {
	if r.reads == nil {
		if err := r.read(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.marks++
	n := r.marks
	r.mu.Unlock()
	err := r.reads.PublishWithContext(ctx, rabbitExchange, rabbitMark, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: fmt.Append(nil, n)})
	if err != nil {
		return err
	}
	return poll(ctx, time.Minute, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.marked < n {
			return errors.New("the queue of RabbitMQ does not give out what was put into it")
		}
		return nil
	})
}
