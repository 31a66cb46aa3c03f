package amqpsink

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/rabbittest"
	"github.com/postrider/postrider/sinks"
	"github.com/postrider/postrider/sinks/sinktest"
)

// A message says who it is in the properties of AMQP, and in headers as CloudEvents has them.
func TestMessage(t *testing.T) {
	b := newBroker(t, common(t))
	sink := b.open(`{"expiration": "30m", "content_type": "text/plain", "headers": {"region": "eu", "mine": "no"}}`)
	d := sinktest.NewDelivery("orders.created", "text")
	d.Key, d.Priority, d.Attempt, d.JSON = "customer-7", 1, 3, false
	d.MessageID = "7f3a-17-1700000000000000"
	d.Headers = []byte(`{"mine": "yes"}`)
	typed := sinktest.NewDelivery("orders.paid", "<a/>")
	typed.Headers = []byte(`{"Content-Type": "text/xml"}`)
	sinktest.WantKinds(t, b.deliver(sink, d, typed), sinks.KindAccepted, sinks.KindAccepted)
	got := b.Drain(t, b.queue)
	if len(got) != 2 {
		t.Fatalf("%d messages, want 2", len(got))
	}
	m := got[0]
	if m.MessageId != d.MessageID || m.Type != d.Topic || m.AppId != "postrider" || m.DeliveryMode != amqp.Persistent || m.ContentType != "text/plain" ||
		m.Expiration != "1800000" || m.RoutingKey != "orders.created" || !m.Timestamp.Equal(d.CreatedAt.Truncate(time.Second)) || string(m.Body) != "text" {
		t.Errorf("arrived as %+v", m)
	}
	want := amqp.Table{
		"cloudEvents_specversion": "1.0", "cloudEvents_id": d.MessageID, "cloudEvents_source": "/postrider/7f3a", "cloudEvents_type": "orders.created",
		"cloudEvents_time": d.CreatedAt.UTC().Format(time.RFC3339Nano), "postrider-key": "customer-7", "postrider-subscription": "conformance",
		"postrider-attempt": int32(3), "postrider-priority": int32(1), "region": "eu", "mine": "yes",
	}
	if fmt.Sprint(m.Headers) != fmt.Sprint(want) {
		t.Errorf("the headers are %v, want %v", m.Headers, want)
	}
	if typed := got[1]; typed.ContentType != "text/xml" || typed.Headers["Content-Type"] != nil {
		t.Errorf("the message's own type arrived as %q, headers %v", typed.ContentType, typed.Headers)
	}
	for _, headers := range []string{`{"cloudEvents_id": "x"}`, `{"Postrider-Key": "x"}`, `{"": "x"}`} {
		d := sinktest.NewDelivery("a", "1")
		d.Headers = []byte(headers)
		sinktest.WantKinds(t, b.deliver(sink, d), sinks.KindPermanent)
	}
}

// Without an exchange messages go to the queue that the routing key names, or each to that of its topic.
func TestDefaultExchange(t *testing.T) {
	b := newBroker(t, common(t))
	for query, topic := range map[string]string{"?routing=" + b.queue: "a", "": b.queue, "/?prefix=q": b.exchange} {
		sink := b.to(sinks.Target{URL: b.url(query)})
		sinktest.WantKinds(t, b.deliver(sink, batchOf(topic)...), sinks.KindAccepted)
	}
	if n := len(b.received()); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

// The first server that answers is taken; those that do not delay it and no more.
func TestSeveralServers(t *testing.T) {
	b := newBroker(t, common(t))
	nobody := rabbittest.FreePorts(t, 1)[0]
	for range 2 {
		sink := b.to(sinks.Target{URL: "amqp://127.0.0.1:" + nobody + "," + b.link.Addr() + "?exchange=" + b.exchange})
		sinktest.WantKinds(t, b.deliver(sink, batchOf("a")...), sinks.KindAccepted)
	}
}

// examined is what the doctor finds.
func examined(t *testing.T, target sinks.Target) *sinks.UnfitError {
	t.Helper()
	err := Destination.Examine(t.Context(), target)
	unfit, ok := errors.AsType[*sinks.UnfitError](err)
	if err != nil && !ok {
		t.Errorf("%s %s: %v, want an UnfitError or nothing", target.URL, target.Options, err)
	}
	return unfit
}

// What somebody has to change is said so, by deliveries and by the doctor alike, and without the password.
func TestSetup(t *testing.T) {
	b := newBroker(t, common(t))
	t.Setenv("POSTRIDER_SECRET_R", "hunter22")
	t.Setenv("POSTRIDER_SECRET_W", "wrong-one")
	user := "user" + b.exchange
	b.Ctl(t, "eval", fmt.Sprintf(`rabbit_auth_backend_internal:add_user(<<"%s">>, <<"hunter22">>, <<"test">>), (catch rabbit_vhost:add(<<"other">>, <<"test">>)),
		rabbit_auth_backend_internal:set_permissions(<<"%s">>, <<"/">>, <<"^$">>, <<"^other$">>, <<"^$">>, <<"test">>).`, user, user))
	right := fmt.Sprintf(`"user": %q, "password": "env:POSTRIDER_SECRET_R"`, user)
	for _, c := range []struct{ query, options, words string }{
		{"", fmt.Sprintf(`{"user": %q, "password": "env:POSTRIDER_SECRET_W"}`, user), "user or password is wrong"},
		{"/nowhere", `{` + right + `}`, "vhost nowhere not found"},
		{"/other", `{` + right + `}`, "access to vhost 'other' refused"},
		{"", `{` + right + `}`, "ACCESS_REFUSED"},
		{"", `{"guard": {"deny": ["127.0.0.0/8"]}}`, "options.guard.allow"},
	} {
		target := sinks.Target{URL: b.url(c.query + "?exchange=" + b.exchange), Options: []byte(c.options)}
		found := make(chan *sinks.UnfitError, 1)
		go func() { found <- examined(t, target) }() // beside it: a server thinks for a while before it refuses a password
		for _, err := range b.deliver(b.to(target), batchOf("a", "b", "c")...) {
			sinktest.WantText(t, err, sinks.KindMisconfigured, c.words)
			if strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), "wrong-one") {
				t.Errorf("the reason shows the password: %v", err)
			}
		}
		if unfit := <-found; unfit == nil || !strings.Contains(unfit.Text, c.words) || unfit.Remedy == "" || unfit.Risk {
			t.Errorf("%s %s: examined: %+v, want %q", c.query, c.options, unfit, c.words)
		}
	}
	b.Ctl(t, "set_permissions", "-p", "/", user, "", "^"+b.exchange+"$", "")
	target := b.target(`{` + right + `}`)
	sinktest.WantKinds(t, b.deliver(b.to(target), batchOf("a")...), sinks.KindAccepted)
	if unfit := examined(t, target); unfit != nil {
		t.Errorf("examined: %v", unfit)
	}
	if n := len(b.received()); n != 1 {
		t.Errorf("%d messages, want one: the doctor's must not arrive", n)
	}
}

// The doctor finds what is missing, and what does not last.
func TestExamine(t *testing.T) {
	b := newBroker(t, common(t))
	b.channel(func(c *amqp.Channel) error {
		_, err := c.QueueDeclare(b.queue+".brief", false, false, false, false, nil)
		return err
	})
	for _, c := range []struct {
		query string
		risk  bool
		words string // empty if all is well
	}{
		{"?exchange=" + b.exchange, false, ""},
		{"?exchange=none", false, `there is no exchange "none"`},
		{"?routing=" + b.queue, false, ""},
		{"?routing=none", false, `there is no queue "none"`},
		{"?routing=" + b.queue + ".brief", true, "is not durable"},
		{"", false, ""},
	} {
		unfit := examined(t, sinks.Target{URL: b.url(c.query)})
		switch {
		case unfit == nil && c.words == "":
		case unfit == nil || c.words == "" || !strings.Contains(unfit.Text, c.words) || unfit.Risk != c.risk || unfit.Remedy == "":
			t.Errorf("%q: %+v, want %q", c.query, unfit, c.words)
		}
	}
	b.link.Down()
	err := Destination.Examine(t.Context(), b.target(""))
	if _, unfit := errors.AsType[*sinks.UnfitError](err); err == nil || unfit {
		t.Errorf("what cannot be reached: %v, want an error that is no finding", err)
	}
	b.link.Up()
	// A queue that is removed while it is looked at is not there for long.
	l, err := deliverer(b.to(sinks.Target{URL: b.url("?routing=none")})).shared.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := (&sink{dialer: &dialer{settings: &settings{Options: Options{Routing: "none"}}}}).examineDurable(l); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(sinktest.Patience); time.Now().Before(deadline); {
		said, err := try(l, func(c *amqp.Channel) error {
			_, err := c.QueueDeclarePassive("none", true, false, false, false, nil)
			return err
		})
		if err != nil || said != nil {
			break
		}
	}
	// Nothing that was looked for was made, and nothing has arrived.
	for _, name := range []string{"none", b.queue + ".brief"} {
		b.channel(func(c *amqp.Channel) error {
			_, err := c.QueueDeclarePassive(name, true, false, false, false, nil)
			if (err == nil) != (name != "none") {
				t.Errorf("queue %s: %v", name, err)
			}
			return nil
		})
	}
	if n := len(b.received()); n != 0 {
		t.Errorf("%d messages have arrived", n)
	}
}

// TLS trusts whom it is told to, and a certificate can say who we are.
func TestTLS(t *testing.T) {
	b := newBroker(t, common(t))
	b.Ctl(t, "eval", `(catch rabbit_auth_backend_internal:add_user(<<"postrider">>, <<"not by this">>, <<"test">>)),
		rabbit_auth_backend_internal:set_permissions(<<"postrider">>, <<"/">>, <<"^$">>, <<".*">>, <<"^$">>, <<"test">>).`)
	external := fmt.Sprintf(`{"mechanism": "EXTERNAL", "tls": {"ca": %q, "cert": %q, "key": %q}}`, b.File("ca.pem"), b.File("cert.pem"), b.File("key.pem"))
	for _, c := range []struct {
		host, options string
		kind          sinks.Kind
		words         string
	}{
		{"127.0.0.1", fmt.Sprintf(`{"tls": {"ca": %q}}`, b.File("ca.pem")), sinks.KindAccepted, ""},
		{"localhost", fmt.Sprintf(`{"tls": {"ca": %q, "min_version": "1.3"}}`, b.File("ca.pem")), sinks.KindAccepted, ""},
		{"localhost", external, sinks.KindAccepted, ""},
		{"localhost", ``, sinks.KindMisconfigured, "certificate"},
		{"localhost", fmt.Sprintf(`{"tls": {"ca": %q, "server_name": "other.example"}}`, b.File("ca.pem")), sinks.KindMisconfigured, "other.example"},
		{"localhost", `{"tls": {"ca": "/nowhere"}}`, sinks.KindMisconfigured, "tls.ca"},
	} {
		target := sinks.Target{URL: "amqps://" + c.host + ":" + b.TLSPort() + "?exchange=" + b.exchange, Options: []byte(c.options)}
		got := b.deliver(b.to(target), batchOf("a")...)[0]
		if c.kind == sinks.KindAccepted {
			sinktest.WantKinds(t, []error{got}, c.kind)
			continue
		}
		sinktest.WantText(t, got, c.kind, c.words)
	}
	plain := sinks.Target{URL: "amqp://127.0.0.1:" + b.TLSPort(), Timeout: time.Second}
	sinktest.WantText(t, b.deliver(b.to(plain), batchOf("a")...)[0], sinks.KindUnavailable)
}

// What is wrong with a target is said with the setting, and what would be right.
func TestBadTargets(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ url, options, want string }{
		{"amqp://joe:hunter22@h", "", "reference"}, {"amqp://", "", "names no host"}, {"amqp://h:0", "", "from 1 to 65535"}, {"amqp://h/a/b", "", "%2F"},
		{"amqp://h/%zz", "", "must be as in"}, {"amqp://h?exchnge=x", "", `"exchnge"`}, {"amqp://h?exchange=x&exchange=y", "", "twice"},
		{"amqp://h?exchange=x", `{"exchange": "y"}`, "twice"}, {"amqp://h?routing=x&prefix=y", "", "one of them"}, {"amqp://h#x", "", "must be as in"},
		{"amqp:h", "", "must be as in"}, {"amqp://h", `{"unroutable": "keep"}`, "wait or drop"}, {"amqp://h", `{"expiration": "-1s"}`, "expiration -1s"},
		{"amqp://h", `{"expiration": "1us"}`, "whole milliseconds"}, {"amqp://h", `{"expiration": "1200h"}`, "at most"}, {"amqp://h", `{"max_message_bytes": -1}`, "from 1 to"},
		{"amqp://h", `{"max_message_bytes": 536870913}`, "from 1 to 536870912"}, {"amqp://h", `{"headers": {"cloudEvents_id": "x"}}`, "reserved"},
		{"amqp://h", `{"exchange": "` + long + `"}`, "at most 255"}, {"amqp://h", `{"mechanism": "GSSAPI"}`, "PLAIN or EXTERNAL"},
		{"amqps://h", `{"mechanism": "EXTERNAL"}`, "tls.cert"}, {"amqps://h", `{"mechanism": "EXTERNAL", "user": "x", "password": "env:X"}`, "no user"},
		{"amqp://h", `{"user": "joe"}`, "takes both"}, {"amqp://h", `{"user": "joe", "password": "hunter22"}`, "password"}, {"amqp://h", `{"tls": {"ca": "x"}}`, "absolute path"},
		{"amqp://h", `{"guard": {"deny": ["x"]}}`, "CIDR"}, {"amqp://h", `{"exchnge": "x"}`, "exchnge"},
	} {
		err := Destination.Check(sinks.Target{URL: c.url, Options: []byte(c.options)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q in it", c.url, c.options, err, c.want)
		} else if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s %s: the password shows: %v", c.url, c.options, err)
		}
	}
	for url, vhost := range map[string]string{"amqp://h": "/", "amqp://h/": "/", "amqp://h/%2F": "/", "amqps://[::1]:7000,10.0.0.1/a%2Fb?prefix=p.": "a/b", "amqp://h/shop": "shop"} {
		c, err := parse(sinks.Target{URL: url})
		if err != nil || c.vhost != vhost {
			t.Errorf("%s: %v, %+v, want the virtual host %q", url, err, c, vhost)
		}
	}
}

// A password that goes over the network as it is takes a warning; over TLS it does not.
func TestPlainPasswordIsWarnedOf(t *testing.T) {
	t.Setenv("POSTRIDER_SECRET_R", "hunter22")
	for url, warns := range map[string]bool{"amqp://localhost": true, "amqps://localhost": false} {
		var log bytes.Buffer
		sink, err := Destination.Open(t.Context(), sinks.Target{URL: url, Options: []byte(`{"user": "joe", "password": "env:POSTRIDER_SECRET_R"}`)},
			sinks.Surroundings{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "goes over the network as it is") != warns {
			t.Errorf("%s: the log says %q", url, log.String())
		}
	}
}
