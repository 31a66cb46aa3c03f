package natstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options say what to start.
type Options struct {
	Servers int    // 1 or 3
	Dir     string // for stores and logs; made if it does not exist, and left behind
}

// Cluster is one NATS server or three. Its methods may be called concurrently; servers are numbered from 0.
type Cluster struct {
	conn  *nats.Conn
	js    jetstream.JetStream
	alarm alarm

	mu      sync.Mutex // held while servers are stopped or started
	nodes   []*node
	stopped bool
}

// Start starts the servers on free loopback ports and waits until they are healthy.
// An error leaves no server running. Whoever calls Start calls Stop.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Servers != 1 && o.Servers != 3 {
		return nil, fmt.Errorf("start NATS: Servers is %d, it must be 1 or 3", o.Servers)
	}
	if o.Dir == "" {
		return nil, errors.New("start NATS: Dir is empty, it must name a directory for stores and logs")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	var err error
	for range 5 { // Somebody else may take a port before a server does.
		c := new(Cluster)
		if err = c.start(ctx, o); err == nil {
			return c, nil
		}
		c.Stop()
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, fmt.Errorf("start NATS: %w", err)
}

func (c *Cluster) start(ctx context.Context, o Options) error {
	ports, err := freePorts(2 * o.Servers)
	if err != nil {
		return err
	}
	var routes []*url.URL
	for i := range o.Servers {
		n := &node{name: fmt.Sprintf("n%d", i), dir: o.Dir, port: ports[2*i], route: ports[2*i+1]}
		routes = append(routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(n.route))})
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		if o.Servers > 1 {
			n.routes = routes
		}
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	for i := range c.nodes {
		if err := c.waitHealthy(ctx, i); err != nil {
			return err
		}
	}
	if c.conn, err = c.connect("natstest"); err != nil {
		return err
	}
	c.conn.SetReconnectHandler(func(*nats.Conn) { c.alarm.ring() })
	c.js, err = jetstream.New(c.conn)
	return err
}

// connect returns a connection that outlives restarts and sends nothing late.
func (c *Cluster) connect(name string) (*nats.Conn, error) {
	return nats.Connect(c.URL(), nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(pollEvery), nats.ReconnectJitter(0, 0),
		nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1), nats.PingInterval(5*time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}

// Stop closes the cluster's own connection and stops all servers, for good. The directory stays.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
	c.stopped = true
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
}

// URL returns the client address of all servers, as clients and sinks take it: nats://host:port,host:port.
func (c *Cluster) URL() string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr())
	}
	return "nats://" + strings.Join(addrs, ",")
}

// URLs returns the client address of each server: nats://host:port.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.addr())
	}
	return urls
}

// Conn returns the cluster's own connection, which reconnects for ever. It must not be closed.
func (c *Cluster) Conn() *nats.Conn { return c.conn }
