package destination

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/relay/subscription"
)

// What each kind says of itself is enough for everybody who asks.
func TestEachDestinationSaysAllOfItself(t *testing.T) {
	var schemes []string
	for _, d := range all {
		if d.Name == "" || d.Check == nil || d.Open == nil || len(d.Schemes) == 0 {
			t.Errorf("%s: name, schemes, check and open are needed", d.Name)
		}
		schemes = append(schemes, d.Schemes...)
		if err := Check(subscription.Subscription{Sink: d.Example}, nil); err != nil {
			t.Errorf("%s: its example is wrong: %v", d.Name, err)
		}
		if d.Options != nil {
			namesSecrets(t, d.Name, reflect.TypeOf(d.Options))
		}
	}
	slices.Sort(schemes)
	if len(slices.Compact(slices.Clone(schemes))) != len(schemes) {
		t.Errorf("two kinds share a scheme: %q", schemes)
	}
}

// namesSecrets finds options that by their names hold secrets, and are not said to hold references.
func namesSecrets(t *testing.T, kind string, options reflect.Type) {
	for _, field := range reflect.VisibleFields(options) {
		if field.Anonymous {
			continue // its own fields are among them
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			t.Errorf("%s: the option %s has no name", kind, field.Name)
		}
		if texts := field.Type.Kind() == reflect.String || field.Type.Kind() == reflect.Slice; texts && secretName.MatchString(name) && field.Tag.Get("secret") == "" {
			t.Errorf("%s: the option %s may hold a secret by its name: it needs the tag secret", kind, name)
		}
	}
}

func TestUnknownSchemes(t *testing.T) {
	for sink, want := range map[string]string{
		"host:4222": `the scheme "host" is unknown; known are amqp, amqps, http, https, kafka, kafkas, mqtt, mqtts, nats, postgres, postgresql, pubsub, pull, redis, rediss, sns, sql, sqs, stdout, tls`,
		"host":      "must be a URL such as https://host/hook, nats://host:4222?stream=ORDERS, kafka://host:9092/orders, postgres://receiver@host/shop?table=public.events, pull:, amqp://host:5672/vhost?exchange=orders, mqtt://host:1883?prefix=shop/, redis://host:6379?stream=orders, sqs://orders?region=eu-central-1, sns:arn:aws:sns:eu-central-1:123456789012:orders, pubsub://project/topic, sql:, stdout:",
	} {
		if err := Check(subscription.Subscription{Sink: sink}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sink, err, want)
		}
	}
}
