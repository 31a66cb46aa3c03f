package mqttsink

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/postrider/postrider/internal/guard"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/internal/wire"
)

// Destination is any broker that speaks MQTT 5.
var Destination = sinks.Destination{
	Name:       "MQTT",
	Schemes:    []string{"mqtt", "mqtts"},
	Example:    "mqtt://host:1883?prefix=shop/",
	Options:    Options{},
	ReplayNote: "The broker hands what is replayed to its subscribers once more, with the same id, behind newer messages.",
	Check:      check,
	Open: func(_ context.Context, t sinks.Target, with sinks.Surroundings) (sinks.Sink, error) {
		s, err := newSink(t, with)
		if err != nil {
			return nil, err
		}
		return s, nil
	},
	Examine: examine,
}

func check(t sinks.Target, secrets *secret.Store) error {
	c, err := parse(t)
	if err != nil || secrets == nil {
		return err
	}
	d, err := newDialer(c, slog.New(slog.DiscardHandler), secrets)
	if err == nil && c.secure {
		_, err = c.TLS.Config("a.example", d.wires.Secrets)
	}
	return err
}

const examineTimeout = 10 * time.Second

// examine looks whether the broker lets us in, and takes what the subscription wants it to.
func examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := newSink(t, sinks.Surroundings{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.given != "" {
		s.ClientID = "postrider-" + rand.Text() // so that nobody's session is taken over
	}
	if _, err = s.shared.Ready(ctx); err == nil {
		return nil
	}
	outcome := sinks.RedactOutcome(&s.wires.Secrets.Redactor, outcomeOf(err))
	if kind, _ := sinks.Classify(outcome); kind != sinks.KindMisconfigured {
		return outcome
	}
	return &sinks.UnfitError{Text: outcome.Error(), Remedy: "change it there, or in the subscription"}
}

// dialer makes connections.
type dialer struct {
	*settings
	wires    wire.Dialer
	given    string                  // the client's id, if the options have one
	user     *secret.Watched[string] // nil for none
	password *secret.Watched[string] // nil for none
}

func newDialer(c *settings, log *slog.Logger, secrets *secret.Store) (*dialer, error) {
	d := &dialer{settings: c, given: c.ClientID, wires: wire.Dialer{Secure: c.secure, TLS: c.TLS, Secrets: secrets.Own()}}
	c.ClientID = cmp.Or(c.ClientID, "postrider-"+rand.Text())
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

func (d *dialer) userName() string {
	if d.user != nil {
		return d.user.Get(time.Now())
	}
	return d.User
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
	l, err := d.greet(ctx, w)
	if err != nil {
		w.Reset()
		return nil, err
	}
	return l, nil
}

var (
	errNoQoS    = errors.New("the broker takes no QoS 1: it would never confirm a message")
	errNoRetain = errors.New("the broker retains no messages: leave the option retain out")
)

// limitsOf reads what a broker says of itself, and says what it lacks.
func (d *dialer) limitsOf(a *packets.Connack) (limits, error) {
	of := limits{packet: d.MaxPacketBytes, out: mostOut, keepAlive: keepAlive}
	p := a.Properties
	switch {
	case p.MaximumQOS != nil && *p.MaximumQOS < 1:
		return of, errNoQoS
	case d.Retain && p.RetainAvailable != nil && *p.RetainAvailable == 0:
		return of, errNoRetain
	}
	if p.MaximumPacketSize != nil {
		of.packet = int(min(int64(of.packet), int64(*p.MaximumPacketSize)))
	}
	if p.ReceiveMaximum != nil {
		of.out = min(of.out, int(*p.ReceiveMaximum))
	}
	if p.ServerKeepAlive != nil && *p.ServerKeepAlive > 0 {
		of.keepAlive = min(of.keepAlive, time.Duration(*p.ServerKeepAlive)*time.Second)
	}
	return of, nil
}

// sink publishes.
type sink struct {
	*dialer
	limits sinks.Limits
	shared *wire.Shared[*link]
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
	if !c.secure && c.Password != "" && with.Log != nil {
		with.Log.Warn("the password goes over the network as it is: use mqtts:// (TLS)")
	}
	limits := sinks.Limits{Lanes: cmp.Or(t.Lanes, DefaultLanes), Batch: cmp.Or(t.Batch, DefaultBatch)}
	return &sink{dialer: d, limits: limits, shared: wire.NewShared(with.Meter, func(ctx context.Context, _ *link, turn int) (*link, error) { return d.connect(ctx, turn) })}, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error { return s.shared.Close() }
