package amqpsink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

const examineTimeout = 10 * time.Second

// examine looks for the exchange, the permission to write to it, and the queue, where one is named.
func examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := newSink(t, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l, err := s.shared.Ready(ctx)
	if err != nil {
		outcome := sinks.RedactOutcome(&s.wires.Secrets.Redactor, outcomeOf(err))
		if kind, _ := sinks.Classify(outcome); kind != sinks.KindMisconfigured {
			return outcome
		}
		return &sinks.UnfitError{Text: outcome.Error(), Remedy: "change it there, or in the subscription"}
	}
	defer context.AfterFunc(ctx, l.reset)()
	if err := s.examineExchange(l); err != nil {
		return err
	}
	if err := s.examineWrite(ctx, l); err != nil {
		return err
	}
	return s.examineQueue(l)
}

// try does something on a channel of its own, and returns what the server said against it.
func try(l *link, do func(*amqp.Channel) error) (*amqp.Error, error) {
	c, err := l.conn.Channel()
	if err != nil {
		return nil, outcomeOf(err)
	}
	err = do(c)
	if e, ok := errors.AsType[*amqp.Error](err); ok && e.Server {
		return e, nil
	}
	return nil, errors.Join(err, c.Close())
}

func (s *sink) examineExchange(l *link) error {
	if s.Exchange == "" {
		return nil
	}
	said, err := try(l, func(c *amqp.Channel) error {
		return c.ExchangeDeclarePassive(s.Exchange, amqp.ExchangeTopic, true, false, false, false, nil)
	})
	if said != nil && said.Code == amqp.NotFound {
		return &sinks.UnfitError{Text: fmt.Sprintf("there is no exchange %q in the virtual host %q", s.Exchange, s.vhost),
			Remedy: fmt.Sprintf("rabbitmqadmin --vhost='%s' declare exchange name='%s' type=topic durable=true, and bind a queue to it", s.vhost, s.Exchange)}
	}
	return err
}

// examineWrite publishes a message that RabbitMQ refuses because of its expiration, and before that for a lack of permission: no queue ever sees
// it. Other servers may have another order, so they are not asked.
func (s *sink) examineWrite(ctx context.Context, l *link) error {
	if product, _ := l.conn.Properties["product"].(string); product != "RabbitMQ" {
		return nil
	}
	c, err := l.open(ctx)
	if err != nil {
		return outcomeOf(err)
	}
	confirm, err := c.PublishWithDeferredConfirm(s.Exchange, s.Routing, true, false, amqp.Publishing{Expiration: "none"})
	if err != nil {
		return outcomeOf(err)
	}
	if _, err := confirm.WaitContext(ctx); err != nil {
		_, why := l.blocked()
		return errors.Join(err, why)
	}
	e, _ := errors.AsType[*amqp.Error](c.why())
	if e == nil || e.Code != amqp.AccessRefused || s.Routing == "" && strings.Contains(e.Reason, "topic") {
		return nil
	}
	user, exchange := s.User, s.Exchange
	if user == "" {
		user = "guest"
	}
	if secret.IsReference(user) {
		user = "NAME"
	}
	if exchange == "" {
		exchange = "amq.default" // as permissions call it
	}
	return &sinks.UnfitError{Text: reasonOf(e),
		Remedy: fmt.Sprintf("let the user write to it, as by rabbitmqctl set_permissions -p '%s' '%s' '' '^%s$' ''", s.vhost, user, regexp.QuoteMeta(exchange))}
}

// examineQueue looks at the queue that the routing key names, if it does.
func (s *sink) examineQueue(l *link) error {
	if s.Exchange != "" || s.Routing == "" {
		return nil
	}
	said, err := try(l, func(c *amqp.Channel) error {
		_, err := c.QueueDeclarePassive(s.Routing, true, false, false, false, nil)
		return err
	})
	switch {
	case err != nil:
		return err
	case said != nil && said.Code == amqp.NotFound:
		return &sinks.UnfitError{Text: fmt.Sprintf("there is no queue %q in the virtual host %q", s.Routing, s.vhost),
			Remedy: fmt.Sprintf("rabbitmqadmin --vhost='%s' declare queue name='%s' durable=true", s.vhost, s.Routing)}
	case said != nil:
		return nil // what may not be asked is not known
	}
	return s.examineDurable(l)
}

// examineDurable asks whether the queue is durable: that shows in what the server says against declaring it with an argument that it cannot have. One
// that was removed meanwhile, and is made by that, is gone after a millisecond.
func (s *sink) examineDurable(l *link) error {
	said, err := try(l, func(c *amqp.Channel) error {
		_, err := c.QueueDeclare(s.Routing, true, false, false, false, amqp.Table{"x-expires": int32(1)})
		return err
	})
	if said != nil && said.Code == amqp.PreconditionFailed && strings.Contains(said.Reason, "'durable'") {
		return &sinks.UnfitError{Risk: true, Text: fmt.Sprintf("the queue %q is not durable: what it has confirmed is lost when the server is restarted", s.Routing),
			Remedy: fmt.Sprintf("remove it, and rabbitmqadmin --vhost='%s' declare queue name='%s' durable=true", s.vhost, s.Routing)}
	}
	return err
}
