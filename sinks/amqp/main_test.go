package amqpsink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/internal/apt"
	"github.com/postrider/postrider/internal/linktest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// shared is the server that all tests have which do nothing to it; nil until the first of them.
var shared *server

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		if err := shared.end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// program is where Debian's package has its scripts. It is installed where that may be.
func program() (string, error) {
	const script = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	find := func() (string, error) { return exec.LookPath(script) }
	path, err := find()
	if err != nil && apt.CanInstall() {
		path, err = apt.InstallAndFind("RabbitMQ", find, func() error {
			return apt.InstallWithoutService(context.Background(), os.Stderr, "RabbitMQ", "rabbitmq-server")
		})
	}
	return path, err
}

// server is a RabbitMQ of this package's own, with a port mapper of its own.
type server struct {
	bin, dir                      string
	port, tlsPort, dist, epmdPort string
	mapper, node                  *exec.Cmd
	mapperEnded, nodeEnded        chan error
	admin                         *amqp.Connection
}

// start starts a server. What it needs to be installed is; without it the test is skipped.
func start(t testing.TB) *server {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Skipf("NOT TESTED, RabbitMQ: %v: `apt-get install rabbitmq-server` installs it", err)
	}
	s := &server{bin: filepath.Dir(path)}
	if s.dir, err = os.MkdirTemp("", "rmq"); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 4)
	s.port, s.tlsPort, s.dist, s.epmdPort = ports[0], ports[1], ports[2], ports[3]
	if err := s.launch(); err != nil {
		t.Fatal(errors.Join(err, s.end()))
	}
	return s
}

// common returns the server that tests share.
func common(t testing.TB) *server {
	t.Helper()
	if shared == nil {
		shared = start(t)
	}
	return shared
}

func freePorts(t testing.TB, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

func (s *server) launch() error {
	config := "loopback_users.guest = true\nlisteners.tcp.1 = 127.0.0.1:" + s.port + "\nmax_message_size = 2000000\ndisk_free_limit.absolute = 1MB\nvm_memory_high_watermark.absolute = 2GB\nlog.console = true\nlog.console.level = warning\nlog.file = false\n"
	if err := s.certify(); err != nil {
		return err
	}
	config += "listeners.ssl.1 = 127.0.0.1:" + s.tlsPort + "\nssl_options.cacertfile = " + s.file("ca.pem") + "\nssl_options.certfile = " + s.file("cert.pem") +
		"\nssl_options.keyfile = " + s.file("key.pem") + "\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n" +
		"auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\n"
	for name, text := range map[string]string{"rabbitmq.conf": config, "plugins": "[rabbitmq_auth_mechanism_ssl].\n", "env.conf": ""} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	var err error
	if s.mapper, s.mapperEnded, err = s.run("epmd", "-port", s.epmdPort, "-address", "127.0.0.1"); err != nil {
		return err
	}
	return s.startNode()
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

func (s *server) env() []string {
	return append(os.Environ(), "HOME="+s.dir, "RABBITMQ_NODENAME=postrider@localhost", "RABBITMQ_NODE_PORT="+s.port, "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_DIST_PORT="+s.dist, "RABBITMQ_MNESIA_BASE="+s.dir, "RABBITMQ_LOG_BASE="+s.dir, "RABBITMQ_LOGS=-", "RABBITMQ_CONFIG_FILE="+s.file("rabbitmq.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+s.file("plugins"), "RABBITMQ_CONF_ENV_FILE="+s.file("env.conf"), "ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT="+s.epmdPort,
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none", "LANG=C.UTF-8", "RUNNING_UNDER_SYSTEMD=1") // the last has the script become the server, so that ending it ends that
}

// run starts a program whose output goes to the log.
func (s *server) run(name string, args ...string) (*exec.Cmd, chan error, error) {
	log, err := os.OpenFile(s.file("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env(), log, log
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return cmd, ended, nil
}

// startTimeout is for a machine that has other things to do.
const startTimeout = 3 * time.Minute

func (s *server) startNode() error {
	var err error
	if s.node, s.nodeEnded, err = s.run(filepath.Join(s.bin, "rabbitmq-server")); err != nil {
		return err
	}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		if s.admin, err = amqp.DialConfig("amqp://guest:guest@"+s.addr()+"/", amqp.Config{Dial: amqp.DefaultDial(5 * time.Second)}); err == nil {
			return nil
		}
		select {
		case ended := <-s.nodeEnded:
			s.nodeEnded <- ended
			err = fmt.Errorf("it ended: %v", ended)
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		text, _ := os.ReadFile(s.file("log"))
		return fmt.Errorf("RabbitMQ does not start: %w\n%s", err, text)
	}
}

// kill kills the server as a crash would.
func (s *server) kill() {
	_ = s.node.Process.Kill()
	<-s.nodeEnded
	s.node = nil
	_ = s.admin.Close()
}

// end ends the server and its port mapper, and removes all of it.
func (s *server) end() error {
	if s.node != nil {
		s.kill()
	}
	if s.mapper != nil {
		_ = s.mapper.Process.Kill()
		<-s.mapperEnded
	}
	return os.RemoveAll(s.dir)
}

func (s *server) addr() string { return "127.0.0.1:" + s.port }

// ctl runs rabbitmqctl.
func (s *server) ctl(t testing.TB, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "rabbitmqctl"), append([]string{"-n", "postrider@localhost"}, args...)...)
	cmd.Env = s.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rabbitmqctl %v: %v\n%s", args, err, out)
	}
}

var names atomic.Int64

// broker is a test's own exchange with a queue behind it, and a network in front.
type broker struct {
	*server
	t               testing.TB
	exchange, queue string
	link            *linktest.InTest
	got             []sinktest.Received
}

// newBroker makes an exchange, of the kind topic, with a queue that takes all.
func newBroker(t testing.TB, s *server) *broker {
	t.Helper()
	b := &broker{server: s, t: t, exchange: fmt.Sprintf("x%d", names.Add(1)), link: linktest.New(t, s.addr())}
	b.queue = "q" + b.exchange
	b.declare(nil)
	return b
}

// channel does something on a channel of its own.
func (b *broker) channel(do func(c *amqp.Channel) error) {
	b.t.Helper()
	c, err := b.admin.Channel()
	if err == nil {
		err = do(c)
	}
	if err == nil {
		err = c.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) declare(args amqp.Table) {
	b.t.Helper()
	b.channel(func(c *amqp.Channel) error {
		err := c.ExchangeDeclare(b.exchange, "topic", true, false, false, false, nil)
		if err == nil {
			_, err = c.QueueDeclare(b.queue, true, false, false, false, args)
		}
		if err == nil {
			err = c.QueueBind(b.queue, "#", b.exchange, false, nil)
		}
		return err
	})
}

func (b *broker) url(query string) string { return "amqp://" + b.link.Addr() + query }

func (b *broker) target(options string) sinks.Target {
	return sinks.Target{URL: b.url("?exchange=" + b.exchange), Options: json.RawMessage(options)}
}

func open(t testing.TB, target sinks.Target) sinks.Sink {
	t.Helper()
	sink, err := Destination.Open(t.Context(), target, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func (b *broker) open(options string) sinks.Sink { return b.to(b.target(options)) }

// to opens a sink that the test's end closes.
func (b *broker) to(target sinks.Target) sinks.Sink {
	b.t.Helper()
	sink := open(b.t, target)
	b.t.Cleanup(func() {
		if err := sink.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return sink
}

// received is what the queue has got so far.
func (b *broker) received() []sinktest.Received {
	b.t.Helper()
	b.channel(func(c *amqp.Channel) error {
		for {
			m, ok, err := c.Get(b.queue, true)
			if err != nil || !ok {
				return err
			}
			b.got = append(b.got, receivedFrom(b.t, m))
		}
	})
	return b.got
}

func receivedFrom(t testing.TB, m amqp.Delivery) sinktest.Received {
	t.Helper()
	r := sinktest.Received{MessageID: m.MessageId, Topic: m.RoutingKey, Payload: m.Body, ContentType: m.ContentType, Headers: map[string]string{}}
	for name, value := range m.Headers {
		switch v := value.(type) {
		case string:
			r.Headers[strings.ToLower(name)] = v
		case int32:
			r.Headers[strings.ToLower(name)] = fmt.Sprint(v)
		}
	}
	r.Key, r.Subscription = r.Headers["postrider-key"], r.Headers["postrider-subscription"]
	if _, err := fmt.Sscan(r.Headers["postrider-attempt"], &r.Attempt); err != nil {
		t.Errorf("attempt %q: %v", r.Headers["postrider-attempt"], err)
	}
	return r
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) *sinktest.Harness {
		b := newBroker(t, common(t))
		return &sinktest.Harness{
			Open:     func(t testing.TB) sinks.Sink { return open(t, b.target(`{"max_message_bytes": 1048576}`)) },
			Received: b.received,
			TooLarge: 1<<20 + 1,
			Down:     b.link.Down, Hang: b.link.Hang, Up: b.link.Up,
		}
	})
}
