package redissink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/sinks"
)

// sink adds to streams.
type sink struct {
	*dialer
	limits sinks.Limits

	mu      sync.Mutex
	client  rueidis.Client // nil: there has been none yet
	attempt *attempt       // to make it; nil: none is under way
	closed  bool
	making  sync.WaitGroup
}

// attempt is one to make a client.
type attempt struct {
	done   chan struct{}
	client rueidis.Client
	err    error
}

var _ sinks.Sink = (*sink)(nil)

func newSink(t sinks.Target, with sinks.Surroundings) (*sink, error) {
	c, err := parse(t)
	if err != nil {
		return nil, err
	}
	d, err := newDialer(c, with.Log, with.Secrets)
	if err != nil {
		return nil, err
	}
	d.meter = with.Meter
	return &sink{dialer: d, limits: sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}}, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error {
	s.mu.Lock()
	s.closed = true
	client := s.client
	s.mu.Unlock()
	if client != nil {
		client.Close()
	}
	s.making.Wait()
	return nil
}

// ready returns the client, which it makes if there is none. That goes on though ctx ends: whoever comes next finds it.
func (s *sink) ready(ctx context.Context) (rueidis.Client, error) {
	s.mu.Lock()
	if s.client != nil {
		defer s.mu.Unlock()
		return s.client, nil
	}
	a := s.attempt
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		s.attempt = a
		s.making.Go(func() { s.make(a) })
	}
	s.mu.Unlock()
	select {
	case <-a.done:
		return a.client, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *sink) make(a *attempt) {
	a.client, a.err = s.connect()
	if refusesLogin(a.err) {
		s.meter.Connected(a.err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempt = nil
	if a.err == nil && s.closed {
		a.client.Close()
		a.err = errors.New("the sink is closed")
	}
	if a.err == nil {
		s.client = a.client
	}
	close(a.done)
}

// Deliver implements sinks.Sink.
func (s *sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.deliver(ctx, batch, outcomes)
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(&s.secrets.Redactor, err)
	}
}

func (s *sink) deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	client, err := s.ready(ctx)
	if err != nil {
		for i := range outcomes {
			outcomes[i] = outcomeOf(err)
		}
		return
	}
	var commands rueidis.Commands
	var at []int
	for i := range batch {
		command, err := s.xadd(client, &batch[i])
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		commands, at = append(commands, command), append(at, i)
	}
	if len(commands) == 0 {
		return
	}
	var login error
	for n, err := range s.run(ctx, client, commands) {
		if err != nil {
			outcomes[at[n]] = outcomeOf(err)
		}
		if refusesLogin(err) { // a new connection's: the client makes one when it has lost the last
			login = err
		}
	}
	if login != nil {
		s.meter.Connected(login)
	}
}

// run sends commands, each of which is answered with the id of an entry, and waits for no longer than ctx: the client waits for its timeout.
func (s *sink) run(ctx context.Context, client rueidis.Client, commands rueidis.Commands) []error {
	list := make([]error, len(commands))
	done := make(chan struct{})
	s.making.Go(func() {
		defer close(done)
		for n, result := range client.DoMulti(ctx, commands...) {
			_, list[n] = result.ToString()
		}
	})
	select {
	case <-done:
		return list
	case <-ctx.Done():
	}
	given := make([]error, len(commands))
	for n := range given {
		given[n] = ctx.Err()
	}
	return given
}

// xadd is the command that adds a message.
func (s *sink) xadd(client rueidis.Client, d *sinks.Delivery) (rueidis.Completed, error) {
	headers, err := d.HeaderMap()
	switch {
	case err != nil:
		return rueidis.Completed{}, err
	case int64(len(d.Payload)) > s.MaxMessageBytes:
		return rueidis.Completed{}, fmt.Errorf("the payload has %d bytes: max_message_bytes is %d", len(d.Payload), s.MaxMessageBytes)
	}
	key := s.Stream
	if key == "" {
		key = s.Prefix + d.Topic
	}
	args := make([]string, 0, 24)
	if s.MaxLen > 0 {
		args = append(args, "MAXLEN", "~", strconv.FormatInt(s.MaxLen, 10))
	}
	kind := "application/octet-stream"
	if d.JSON {
		kind = "application/json"
	}
	args = append(args, "*", "message_id", d.MessageID, "topic", d.Topic, "content_type", kind, "created_at", d.CreatedAt.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"subscription", d.Subscription, "attempt", strconv.Itoa(d.Attempt))
	if d.Key != "" {
		args = append(args, "key", d.Key)
	}
	if d.Priority != 0 && d.Priority != sinks.DefaultPriority {
		args = append(args, "priority", strconv.Itoa(int(d.Priority)))
	}
	for name, value := range headers {
		args = append(args, "header."+name, value)
	}
	args = append(args, "payload", rueidis.BinaryString(d.Payload))
	return client.B().Arbitrary("XADD").Keys(key).Args(args...).Build(), nil
}
