package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/postrider/postrider/internal/brokertest"
	"github.com/postrider/postrider/internal/natstest"
	"github.com/postrider/postrider/internal/pgtest"
)

// told is the value of a metric of a kind of destination, 0 if the relay does not tell it.
func (p *process) told(metric, kind string) float64 {
	p.t.Helper()
	_, all := p.get("/metrics")
	found := regexp.MustCompile(`(?m)^postrider_sink_` + metric + `\{kind="` + kind + `"\} (\S+)$`).FindStringSubmatch(all)
	if found == nil {
		return 0
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return value
}

// reached is the sink of a destination of each kind but RabbitMQ, and its options. RabbitMQ has a test of its own.
func reached(t *testing.T) map[string][2]string {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	streams, err := natstest.Start(t.Context(), natstest.Options{Servers: 1, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(streams.Stop)
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "all"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	to := pgtest.Empty(t)
	on(t, to.URL(), "inbox", "install").ok()
	to.Exec(t, "CREATE TABLE events (message_id text, topic text, key text, payload jsonb, body bytea, headers jsonb, created_at timestamptz)")
	u, err := url.Parse(to.URL())
	if err != nil {
		t.Fatal(err)
	}
	mqtt := startMQTT(t, "127.0.0.1:0", &heard{seen: map[string]bool{}, byKey: map[string][]int{}})
	t.Cleanup(func() {
		if err := mqtt.Close(); err != nil {
			t.Error(err)
		}
	})
	address, _ := mqtt.Listeners.Get("tcp")
	all := map[string][2]string{
		"http": {receiver.URL, "{}"}, "nats": {streams.URL() + "?core=true", "{}"}, "kafka": {"kafka://" + kafka.ListenAddrs()[0] + "/all", "{}"},
		"postgres": {fmt.Sprintf("postgres://%s@%s/%s?table=public.events", u.User.Username(), u.Host, to.Name), "{}"},
		"mqtt":     {"mqtt://" + address.Address(), "{}"}, "redis": {"redis://" + brokertest.Redis(t).Addr() + "?stream=all", "{}"},
	}
	for kind, c := range map[string]*cloud{"sqs": startAmazon(t, "sqs://all?region=eu-central-1&", "all"), "sns": startAmazon(t, "sns:arn:aws:sns:eu-central-1:123456789012:all?", "all"), "pubsub": startPubSub(t)} {
		c.make()
		all[kind] = [2]string{c.sink, c.options}
	}
	return all
}

// unreachable are sinks of each kind whose address nobody listens on.
var unreachable = map[string]string{
	"http": "http://127.0.0.1:1", "nats": "nats://127.0.0.1:1?core=true", "kafka": "kafka://127.0.0.1:1/all", "postgres": "postgres://nobody@127.0.0.1:1/none?table=public.events",
	"mqtt": "mqtt://127.0.0.1:1", "redis": "redis://127.0.0.1:1?stream=all", "sqs": "sqs://all?region=eu-central-1&endpoint=http://127.0.0.1:1",
	"sns": "sns:arn:aws:sns:eu-central-1:123456789012:all?endpoint=http://127.0.0.1:1", "pubsub": "pubsub://project-1/later?endpoint=http://127.0.0.1:1", "amqp": "amqp://127.0.0.1:1?exchange=all",
}

// Of each kind of destination it is told how many connections were made, and were not, and of what size batches were.
func TestKindsOfDestinationsAreMeasured(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), cloudSecret}
	kinds := reached(t)
	file := "subscriptions:\n"
	for kind, sink := range kinds {
		file += fmt.Sprintf("  - {name: good-%s, topics: [a.>], sink: '%s', options: %s}\n", kind, sink[0], sink[1])
	}
	runCommand(t, env, "", "subs", "apply", writeFile(t, file)).ok()
	db.Exec(t, "INSERT INTO postrider.outbox (topic, payload) SELECT 'a.b', to_jsonb(i) FROM generate_series(1, 30) i")
	p := start(t, env...)
	pool := db.Pool(t)
	eventually(t, "all have arrived", func() bool {
		return ask[bool](t, pool, "SELECT bool_and(lag_messages = 0 AND retrying + held = 0) FROM postrider.subscription_status")
	})
	for kind := range kinds {
		made, failed, batches, messages, busy := p.told("connections_total", kind), p.told("connect_failures_total", kind), p.told("batches_total", kind), p.told("batch_messages_total", kind), p.told("batch_seconds_total", kind)
		if made < 1 || failed != 0 || batches < 1 || messages != 30 || busy <= 0 || batches > messages {
			t.Errorf("%s: %v connections, %v failures, %v batches of %v messages in %v seconds", kind, made, failed, batches, messages, busy)
		}
	}
	for kind, sink := range unreachable {
		file += fmt.Sprintf("  - {name: bad-%s, topics: [b.>], sink: '%s'", kind, sink)
		if options := kinds[kind][1]; options != "" {
			file += ", options: " + options
		}
		file += "}\n"
	}
	runCommand(t, env, "", "subs", "apply", writeFile(t, file)).ok()
	db.Exec(t, "INSERT INTO postrider.outbox (topic, payload) VALUES ('b.c', '1')")
	for kind := range unreachable {
		eventually(t, kind+" is said not to be reached", func() bool { return p.told("connect_failures_total", kind) > 0 })
	}
}
