package natstest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Running says whether server i runs.
func (c *Cluster) Running(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i].srv != nil
}

// StopServer stops server i. It does nothing if the server does not run.
func (c *Cluster) StopServer(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[i].stop()
}

// StartServer starts server i again, on its port and store. It waits until the server has caught up, unless
// too few run for a majority. It does nothing if the server runs.
func (c *Cluster) StartServer(ctx context.Context, i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.startServer(ctx, i); err != nil {
		return fmt.Errorf("start NATS server %d: %w", i, err)
	}
	return nil
}

// Restart stops server i and starts it again, see StartServer.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[i].stop()
	if err := c.startServer(ctx, i); err != nil {
		return fmt.Errorf("restart NATS server %d: %w", i, err)
	}
	return nil
}

func (c *Cluster) startServer(ctx context.Context, i int) error {
	if c.stopped {
		return errors.New("the cluster was stopped for good")
	}
	for try := 1; ; try++ {
		if c.nodes[i].srv == nil {
			if err := c.nodes[i].start(ctx); err != nil {
				return err
			}
		}
		if 2*len(c.running()) <= len(c.nodes) {
			return nil
		}
		waiting, cancel := context.WithTimeout(ctx, catchUp)
		err := c.waitHealthy(waiting, i)
		cancel()
		if err == nil || ctx.Err() != nil || try == 3 {
			return err
		}
		c.nodes[i].stop()
	}
}

// catchUp is how long a server may take to catch up with its cluster. Now and then one never does, after a stream was deleted
// while it was away; then it is started again, as its supervisor would do.
const catchUp = 20 * time.Second

// waitHealthy waits until server i is up to date and the cluster's leader knows of all running servers:
// before that it finds no place for a stream.
func (c *Cluster) waitHealthy(ctx context.Context, i int) error {
	if err := poll(ctx, c.nodes[i].healthy); err != nil || len(c.nodes) == 1 {
		return err
	}
	running := c.running()
	return poll(ctx, func() error {
		for _, n := range running {
			if n.srv.JetStreamIsLeader() && len(n.srv.JetStreamClusterPeers()) >= len(running) {
				return nil
			}
		}
		return fmt.Errorf("no leader knows all of the %d running servers", len(running))
	})
}

func (c *Cluster) running() []*node {
	var list []*node
	for _, n := range c.nodes {
		if n.srv != nil {
			list = append(list, n)
		}
	}
	return list
}

// Leader returns which server leads a stream, as soon as one does.
func (c *Cluster) Leader(ctx context.Context, stream string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader(ctx, stream)
}

func (c *Cluster) leader(ctx context.Context, stream string) (leader int, err error) {
	err = poll(ctx, func() error {
		for i, n := range c.nodes {
			if n.srv == nil {
				continue
			}
			if len(c.nodes) == 1 || n.srv.JetStreamIsStreamLeader(account, stream) {
				leader = i
				return nil
			}
		}
		return fmt.Errorf("no server leads stream %s", stream)
	})
	return leader, err
}

// StopLeader stops the server that leads a stream and returns which one it was, once the others
// have all that the stream holds: they will elect another leader. With one server it stops that one.
func (c *Cluster) StopLeader(ctx context.Context, stream string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.leader(ctx, stream)
	if err == nil {
		err = c.current(ctx, stream)
	}
	if err != nil {
		return i, fmt.Errorf("stop the leader of stream %s: %w", stream, err)
	}
	c.nodes[i].stop()
	return i, nil
}

// StepDown makes the leader of a stream of three replicas hand over to another server, and returns which one led.
func (c *Cluster) StepDown(ctx context.Context, stream string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.leader(ctx, stream)
	if err == nil {
		err = c.nodes[i].srv.JetStreamStepdownStream(account, stream)
	}
	if err != nil {
		return i, fmt.Errorf("make the leader of stream %s step down: %w", stream, err)
	}
	return i, nil
}

// current waits until all running servers have what the stream holds.
func (c *Cluster) current(ctx context.Context, stream string) error {
	return poll(ctx, func() error {
		for _, n := range c.running() {
			if !n.srv.JetStreamIsStreamCurrent(account, stream) {
				return fmt.Errorf("server %s lags behind in stream %s", n.name, stream)
			}
		}
		return nil
	})
}
