package rabbittest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Quorum makes a quorum queue, and returns once the server finds it again after SIGKILL, with what it had confirmed. RabbitMQ keeps the names of these queues in
// a file that it writes up to a second later: killed before that, it never finds the queue again, whatever it has confirmed.
func (s *Server) Quorum(queue string) error {
	put := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte("is it there?")}
	err := s.do(func(c *amqp.Channel) error {
		if _, err := c.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
			return err
		}
		if err := c.Confirm(false); err != nil {
			return err
		}
		return confirmed(c.PublishWithDeferredConfirmWithContext(context.Background(), "", queue, true, false, put))
	})
	if err == nil {
		err = s.awaitName(queue)
	}
	if err != nil {
		return fmt.Errorf("make the quorum queue %s: %w", queue, err)
	}
	s.Kill()
	if err := s.Restart(); err != nil {
		return err
	}
	if err := s.awaitMessage(queue, put.Body); err != nil {
		return fmt.Errorf("the quorum queue %s after SIGKILL: %w", queue, err)
	}
	return nil
}

// awaitMessage takes the one message out of a queue. Until a quorum queue that was killed has a leader again, which may take seconds, the server answers with an
// internal error, and ends the connection.
func (s *Server) awaitMessage(queue string, body []byte) error {
	for deadline := time.Now().Add(Patience); ; time.Sleep(100 * time.Millisecond) {
		var there bool
		err := s.do(func(c *amqp.Channel) (err error) {
			var m amqp.Delivery
			if m, there, err = c.Get(queue, true); there && !bytes.Equal(m.Body, body) {
				return fmt.Errorf("it holds %q", m.Body)
			}
			return err
		})
		switch {
		case err == nil && there:
			return nil
		case err == nil:
			return errors.New("what it had confirmed is not there")
		case time.Now().After(deadline):
			return err
		case s.admin.IsClosed():
			if err := s.dial(); err != nil {
				return err
			}
		}
	}
}

func confirmed(d *amqp.DeferredConfirmation, err error) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ok, err := d.WaitContext(ctx)
	if err == nil && !ok {
		err = errors.New("it does not take a message")
	}
	return err
}

// awaitName waits until the server has written down the name of a queue.
func (s *Server) awaitName(queue string) error {
	const where = "*/quorum/*/names.dets"
	for deadline := time.Now().Add(Patience); ; time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob(s.File(where))
		if err != nil {
			return err
		}
		for _, file := range files {
			if text, err := os.ReadFile(file); err != nil {
				return err
			} else if bytes.Contains(text, []byte(queue)) {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("its name is in none of %d files %s", len(files), where)
		}
	}
}

// dial makes the connection of the user guest.
func (s *Server) dial() (err error) {
	s.admin, err = amqp.DialConfig("amqp://guest:guest@"+s.Addr()+"/", amqp.Config{Dial: amqp.DefaultDial(5 * time.Second)})
	return err
}
