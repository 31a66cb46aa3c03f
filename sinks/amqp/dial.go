package amqpsink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

const (
	// greetTimeout bounds the protocol's greetings: a server thinks for three seconds before it refuses a password.
	greetTimeout = 10 * time.Second
	// heartbeat is asked for; a server that is silent for one and a half of it is gone.
	heartbeat = 10 * time.Second
)

// dialer makes connections.
type dialer struct {
	*settings
	wires    wire.Dialer
	meter    *sinks.Meter            // nil: nobody counts
	user     *secret.Watched[string] // nil for none
	password *secret.Watched[string] // nil for none
}

func newDialer(c *settings, log *slog.Logger, secrets *secret.Store) (*dialer, error) {
	d := &dialer{settings: c, wires: wire.Dialer{Secure: c.secure, TLS: c.TLS, Secrets: secrets.Own()}}
	var err error
	if d.wires.Guard, err = guard.New(c.Guard); err != nil {
		return nil, err
	}
	plain := func(t secret.Text) (string, error) { return t.Reveal(), nil }
	if secret.IsReference(c.User) {
		if d.user, err = secret.Watch(log, d.wires.Secrets, "user", c.User, plain); err != nil {
			return nil, err
		}
	}
	if c.Password != "" {
		if d.password, err = secret.Watch(log, d.wires.Secrets, "password", c.Password, plain); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// mechanism says who we are, as the references lead to it now. Without a user it is guest, whom servers know by default on their own machine.
func (d *dialer) mechanism() amqp.Authentication {
	if d.Mechanism == "EXTERNAL" {
		return &amqp.ExternalAuth{}
	}
	auth := &amqp.PlainAuth{Username: d.User, Password: "guest"}
	switch {
	case d.user != nil:
		auth.Username = d.user.Get(time.Now())
	case d.User == "":
		auth.Username = "guest"
	}
	if d.password != nil {
		auth.Password = d.password.Get(time.Now())
	}
	return auth
}

// connect returns a connection to the first of the servers that gives one, beginning with the one whose turn it is.
func (d *dialer) connect(ctx context.Context, turn int) (l *link, err error) {
	for n := range d.servers {
		address := d.servers[(turn+n)%len(d.servers)]
		if l, err = d.connectTo(ctx, address); err == nil {
			return l, nil
		}
		err = fmt.Errorf("%s: %w", address, err)
	}
	return nil, err
}

func (d *dialer) connectTo(ctx context.Context, address string) (*link, error) {
	w, err := d.wires.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, w.Reset)
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("postrider")
	conn, err := amqp.Open(w, amqp.Config{SASL: []amqp.Authentication{d.mechanism()}, Vhost: d.vhost, Heartbeat: heartbeat, Properties: properties, Locale: "en_US"})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && !capable(conn, "publisher_confirms") {
		err = errConfirms
	}
	if err != nil {
		w.Reset()
		return nil, explain(w, err)
	}
	return newLink(conn, w, d.meter), nil
}

var errConfirms = errors.New("the server has no publisher confirms")

func capable(conn *amqp.Connection, of string) bool {
	capabilities, _ := conn.Properties["capabilities"].(amqp.Table)
	can, _ := capabilities[of].(bool)
	return can
}

// explain tells a server that ended the connection when it was told who we are, which is its answer to a wrong password, from one that was silent.
func explain(w *wire.Conn, err error) error {
	e, ok := errors.AsType[*amqp.Error](err)
	if ok && (e == amqp.ErrCredentials || e == amqp.ErrVhost) && !w.Ended() {
		return errSilent
	}
	return w.Explain(err)
}

var errSilent = errors.New("no answer while the connection was made")
