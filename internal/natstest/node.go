package natstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	host    = "127.0.0.1"
	account = server.DEFAULT_GLOBAL_ACCOUNT
)

// node is one server, running or not.
type node struct {
	name        string
	dir         string
	port, route int
	routes      []*url.URL // of all servers; nil if there is only one

	srv *server.Server // nil while stopped
	log *logger
}

func (n *node) addr() string { return net.JoinHostPort(host, strconv.Itoa(n.port)) }

func (n *node) options() *server.Options {
	o := &server.Options{
		ServerName: n.name, Host: host, Port: n.port, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(n.dir, n.name),
	}
	if n.routes != nil {
		o.Cluster = server.ClusterOpts{Name: "natstest", Host: host, Port: n.route}
		o.Routes = n.routes
	}
	return o
}

// start starts the server and waits until it listens.
func (n *node) start(ctx context.Context) error {
	log, err := newLogger(filepath.Join(n.dir, n.name+".log"))
	if err != nil {
		return err
	}
	srv, err := server.NewServer(n.options())
	if err != nil {
		log.close()
		return fmt.Errorf("server %s: %w", n.name, err)
	}
	srv.SetLoggerV2(log, false, false, false)
	n.srv, n.log = srv, log
	srv.Start()
	err = poll(ctx, func() error {
		if !srv.ReadyForConnections(pollEvery) && log.err() == nil {
			return fmt.Errorf("server %s does not listen on %s yet", n.name, n.addr())
		}
		return nil
	})
	if fatal := log.err(); fatal != nil {
		err = fmt.Errorf("server %s: %w", n.name, fatal)
	}
	if err != nil {
		n.stop()
	}
	return err
}

// stop shuts the server down, if it runs.
func (n *node) stop() {
	if n.srv == nil {
		return
	}
	n.srv.Shutdown()
	n.srv.WaitForShutdown()
	n.log.close()
	n.srv = nil
}

// healthy returns nil once the server, its RAFT groups and its streams are up to date.
func (n *node) healthy() error {
	if h := n.srv.Healthz(new(server.HealthzOptions)); h.Status != "ok" {
		return fmt.Errorf("server %s is not healthy: %s", n.name, h.Error)
	}
	return nil
}

// stream returns what this server itself knows of a stream, nil if it knows none.
func (n *node) stream(name string) *server.StreamDetail {
	detail, err := n.srv.JszAccount(&server.JSzOptions{Account: account, Streams: true, Config: true})
	if err != nil {
		return nil
	}
	for i := range detail.Streams {
		if detail.Streams[i].Name == name {
			return &detail.Streams[i]
		}
	}
	return nil
}

// freePorts returns ports that were free a moment ago. They stay below the range from which systems take
// the ports of outgoing connections: a client that dials a stopped server in that range can end up connected
// to itself, and the server cannot come back.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range 100 {
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close() // Held till the end, so that no port is returned twice.
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("found no %d free ports between 15000 and 32000", n)
}
