// Package rabbittest runs a real RabbitMQ beside a test, on the loopback interface alone, to be killed, stopped and started again.
package rabbittest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/apt"
	"github.com/postrider/postrider/internal/brokertest"
)

// Find returns the script of Debian's package that starts it. It is installed where that may be; else the error is ErrMissing.
func Find() (string, error) {
	const script = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	find := func() (string, error) { return exec.LookPath(script) }
	path, err := find()
	if err != nil && apt.CanInstall() {
		path, err = apt.InstallAndFind("RabbitMQ", find, func() error {
			return apt.InstallWithoutService(context.Background(), os.Stderr, "RabbitMQ", "rabbitmq-server")
		})
	}
	if err != nil {
		return "", fmt.Errorf("%v: %w", err, ErrMissing)
	}
	return path, nil
}

// Server is a RabbitMQ with a port mapper, both of a test's or a package's own.
type Server struct {
	bin, dir                      string
	port, tlsPort, dist, epmdPort string
	mapper, node                  *exec.Cmd
	mapperEnded, nodeEnded        chan error
	admin                         *amqp.Connection
}

// Start starts a server. Whoever calls it calls End. What it needs is installed where that may be; else the test is skipped.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Launch()
	if errors.Is(err, ErrMissing) {
		t.Skipf("NOT TESTED, RabbitMQ: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ErrMissing is that RabbitMQ is not installed.
var ErrMissing = errors.New("`apt-get install rabbitmq-server` installs it")

// Launch is Start for whoever has no test.
func Launch() (*Server, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: filepath.Dir(path)}
	if s.dir, err = os.MkdirTemp("", "rmq"); err != nil {
		return nil, err
	}
	ports, err := freePorts(4)
	if err == nil {
		s.port, s.tlsPort, s.dist, s.epmdPort = ports[0], ports[1], ports[2], ports[3]
		err = s.launch()
	}
	if err != nil {
		return nil, errors.Join(err, s.End())
	}
	return s, nil
}

// FreePorts returns ports of the loopback interface that nobody listens on.
func FreePorts(t testing.TB, n int) []string {
	t.Helper()
	ports, err := freePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func (s *Server) launch() error {
	config := "loopback_users.guest = true\nlisteners.tcp.1 = 127.0.0.1:" + s.port + "\nmax_message_size = 2000000\ndisk_free_limit.absolute = 1MB\nvm_memory_high_watermark.absolute = 2GB\nlog.console = true\nlog.console.level = warning\nlog.file = false\n"
	if err := s.certify(); err != nil {
		return err
	}
	config += "listeners.ssl.1 = 127.0.0.1:" + s.tlsPort + "\nssl_options.cacertfile = " + s.File("ca.pem") + "\nssl_options.certfile = " + s.File("cert.pem") +
		"\nssl_options.keyfile = " + s.File("key.pem") + "\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n" +
		"auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\n"
	for name, text := range map[string]string{"rabbitmq.conf": config, "plugins": "[rabbitmq_auth_mechanism_ssl].\n", "env.conf": ""} {
		if err := os.WriteFile(s.File(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	var err error
	if s.mapper, s.mapperEnded, err = s.run("epmd", "-port", s.epmdPort, "-address", "127.0.0.1"); err != nil {
		return err
	}
	return s.Restart()
}

// File is the path of a file of the server, such as ca.pem, cert.pem and key.pem: a certificate of the server and of the user postrider.
func (s *Server) File(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) env() []string {
	return append(os.Environ(), "HOME="+s.dir, "RABBITMQ_NODENAME=postrider@localhost", "RABBITMQ_NODE_PORT="+s.port, "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_DIST_PORT="+s.dist, "RABBITMQ_MNESIA_BASE="+s.dir, "RABBITMQ_LOG_BASE="+s.dir, "RABBITMQ_LOGS=-", "RABBITMQ_CONFIG_FILE="+s.File("rabbitmq.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+s.File("plugins"), "RABBITMQ_CONF_ENV_FILE="+s.File("env.conf"), "ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT="+s.epmdPort,
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none", "LANG=C.UTF-8", "RUNNING_UNDER_SYSTEMD=1") // the last has the script become the server, so that ending it ends that
}

// run starts a program whose output goes to the log.
func (s *Server) run(name string, args ...string) (*exec.Cmd, chan error, error) {
	log, err := os.OpenFile(s.File("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = s.env(), log, log, brokertest.Attributes()
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return cmd, ended, nil
}

// Patience bounds all waits. It is for a machine that has other things to do.
const Patience = 3 * time.Minute

// Restart starts a server that was killed.
func (s *Server) Restart() error {
	var err error
	if s.node, s.nodeEnded, err = s.run(filepath.Join(s.bin, "rabbitmq-server")); err != nil {
		return err
	}
	for deadline := time.Now().Add(Patience); ; time.Sleep(20 * time.Millisecond) {
		if err = s.dial(); err == nil {
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
		text, _ := os.ReadFile(s.File("log"))
		return fmt.Errorf("RabbitMQ does not start: %w\n%s", err, text)
	}
}

// Kill kills the server as a crash would.
func (s *Server) Kill() {
	_ = s.node.Process.Kill()
	<-s.nodeEnded
	s.node = nil
	_ = s.admin.Close()
}

// End ends the server and its port mapper, and removes all of it.
func (s *Server) End() error {
	if s.node != nil {
		s.Kill()
	}
	if s.mapper != nil {
		_ = s.mapper.Process.Kill()
		<-s.mapperEnded
	}
	return os.RemoveAll(s.dir)
}

// Addr is where it listens.
func (s *Server) Addr() string { return "127.0.0.1:" + s.port }

// TLSPort is the port of 127.0.0.1 where it listens with TLS.
func (s *Server) TLSPort() string { return s.tlsPort }

// Admin is a connection of the user guest, which Kill ends.
func (s *Server) Admin() *amqp.Connection { return s.admin }

// PID is the server's process id.
func (s *Server) PID() int { return s.node.Process.Pid }

// Signal sends a signal to the server.
func (s *Server) Signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := s.node.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Declare makes an exchange of the kind topic, and a queue that takes all of it.
func (s *Server) Declare(t testing.TB, exchange, queue string, args amqp.Table) {
	t.Helper()
	if err := s.Bind(exchange, queue, args); err != nil {
		t.Fatal(err)
	}
}

// Bind is Declare for whoever has no test.
func (s *Server) Bind(exchange, queue string, args amqp.Table) error {
	return s.do(func(c *amqp.Channel) error {
		err := c.ExchangeDeclare(exchange, "topic", true, false, false, false, nil)
		if err == nil {
			_, err = c.QueueDeclare(queue, true, false, false, false, args)
		}
		if err == nil {
			err = c.QueueBind(queue, "#", exchange, false, nil)
		}
		return err
	})
}

// Channel does something on a channel of its own.
func (s *Server) Channel(t testing.TB, do func(c *amqp.Channel) error) {
	t.Helper()
	if err := s.do(do); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) do(do func(c *amqp.Channel) error) error {
	c, err := s.admin.Channel()
	if err == nil {
		err = do(c)
	}
	if err == nil {
		err = c.Close()
	}
	return err
}

// Drain takes all messages out of a queue.
func (s *Server) Drain(t testing.TB, queue string) (list []amqp.Delivery) {
	t.Helper()
	s.Channel(t, func(c *amqp.Channel) error {
		for {
			m, ok, err := c.Get(queue, true)
			if err != nil || !ok {
				return err
			}
			list = append(list, m)
		}
	})
	return list
}

// Ctl runs rabbitmqctl.
func (s *Server) Ctl(t testing.TB, args ...string) {
	t.Helper()
	if err := s.Control(args...); err != nil {
		t.Fatal(err)
	}
}

// Control is Ctl for whoever has no test.
func (s *Server) Control(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "rabbitmqctl"), append([]string{"-n", "postrider@localhost"}, args...)...)
	cmd.Env = s.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl %v: %w\n%s", args, err, out)
	}
	return nil
}
