package bridge

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/env"
)

// redisStream is the key that takes all messages.
const redisStream = "bench"

// redisServer is a redis-server.
type redisServer struct {
	ear
	process *child.Process
	address string
	client  rueidis.Client
}

var _ Server = (*redisServer)(nil)

func startRedis(ctx context.Context, dir string) (Server, error) {
	path, err := program("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &redisServer{address: "127.0.0.1:" + port}
	s.process, err = child.Start(ctx, child.Spec{
		Name: "Redis", Log: filepath.Join(dir, "redis.log"),
		Cmd: exec.CommandContext(context.WithoutCancel(ctx), path, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
		Poll: func(context.Context) (err error) {
			s.client, err = newRedis(s.address)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func newRedis(address string) (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, PipelineMultiplex: -1})
}

// Fresh implements Server.
func (s *redisServer) Fresh(ctx context.Context) (string, error) {
	s.end()
	return s.address, s.client.Do(ctx, s.client.B().Flushall().Build()).Error()
}

// PIDs implements Server.
func (s *redisServer) PIDs() []int { return []int{s.process.PID()} }

// Count implements Server.
func (s *redisServer) Count(ctx context.Context) (int64, error) {
	return s.client.Do(ctx, s.client.B().Xlen().Key(redisStream).Build()).AsInt64()
}

// Listen implements Server: it reads the stream.
func (s *redisServer) Listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var reading sync.WaitGroup
	a := s.listen(func() { cancel(); reading.Wait() })
	reading.Go(func() { s.read(ctx, a) })
	return nil
}

// read takes down what comes. What it cannot read has not arrived, as the figures say then.
func (s *redisServer) read(ctx context.Context, a *env.Arrivals) {
	for last := "0"; ctx.Err() == nil; {
		const wait = 100 // milliseconds
		command := s.client.B().Xread().Count(1000).Block(wait).Streams().Key(redisStream).Id(last).Build()
		streams, err := s.client.Do(ctx, command).AsXRead()
		if err != nil && !rueidis.IsRedisNil(err) {
			return
		}
		for _, entry := range streams[redisStream] {
			note(a, []byte(entry.FieldValues["payload"]))
			last = entry.ID
		}
	}
}

// Stop implements Server.
func (s *redisServer) Stop() error {
	s.end()
	s.client.Close()
	return s.process.Stop()
}

func redisSink(at string) Sink { return Sink{URL: "redis://" + at + "?stream=" + redisStream} }

// redisLoop adds by pipelines.
func redisLoop(ctx context.Context, o order) (*batches, error) {
	client, err := newRedis(o.at)
	if err != nil {
		return nil, err
	}
	send := func(ctx context.Context, batch []item) error {
		commands := make(rueidis.Commands, len(batch))
		for i, m := range batch {
			args := []string{"*", "message_id", m.id}
			if o.attributes {
				args = append(args, "topic", topic, "content_type", mediaType, "created_at", created(), "subscription", subscription, "attempt", "1")
			}
			args = append(args, "payload", rueidis.BinaryString(m.payload))
			commands[i] = client.B().Arbitrary("XADD").Keys(redisStream).Args(args...).Build()
		}
		for _, result := range client.DoMulti(ctx, commands...) {
			if _, err := result.ToString(); err != nil {
				return fmt.Errorf("XADD: %w", err)
			}
		}
		return nil
	}
	return newBatches(ctx, o, 256, func() error { client.Close(); return nil }, same(2, send)...), nil
}
