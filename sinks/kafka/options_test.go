package kafkasink

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

func TestURLs(t *testing.T) {
	for url, want := range map[string]struct {
		brokers, topic string
		secure         bool
	}{
		"kafka://a:9092/orders":                 {"a:9092", "orders", false},
		"kafkas://a:9092,b.example:9093":        {"a:9092 b.example:9093", "", true},
		"kafka://[::1]:9092,10.0.0.1:1/a_b-c.d": {"[::1]:9092 10.0.0.1:1", "a_b-c.d", false},
		"kafka://a:9092/":                       {"a:9092", "", false},
	} {
		c, err := parse(sinks.Target{URL: url})
		if err != nil || strings.Join(c.brokers, " ") != want.brokers || c.Topic != want.topic || c.secure != want.secure {
			t.Errorf("%s: brokers %v, topic %q, TLS %t, %v", url, c.brokers, c.Topic, c.secure, err)
		}
	}
	for url, want := range map[string]string{
		"kafka:a":                     "begins with kafka://, or kafkas://",
		"http://a":                    "begins with kafka://",
		"kafka://":                    "names no host",
		"kafka://a":                   `"a" has no port: 9092 is the usual one`,
		"kafka://a:9092,,b:9092":      "names no host",
		"kafka://a:0/t":               `the port "0"`,
		"kafka://a b:9092/t":          "a b",
		"kafka://joe:geheim@a:9092/t": "holds no user and password",
		"kafka://a:9092/t?x=geheim":   "nothing behind the topic",
		"kafka://a:9092/t/u":          `holds '/'`,
		"kafka://a:9092/größe":        `holds 'ö'`,
		"kafka://a:9092/..":           "no topic of that name",
		"kafka://a:9092/" + strings.Repeat("x", 250): "Kafka takes 249",
	} {
		if _, err := parse(sinks.Target{URL: url}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

func TestOptionsNameTheMistake(t *testing.T) {
	for options, want := range map[string]string{
		`{"topic": "b"}`:                        "topic is given here and in the sink's URL",
		`{"prefix": "x."}`:                      "topic and prefix are both given",
		`{"prefix": "x/"}`:                      "prefix: topic",
		`{"topics": "b"}`:                       "topics",
		`{"compression": "brotli"}`:             `compression is "brotli": must be none, gzip, snappy, lz4 or zstd`,
		`{"ack_timeout": "1ms"}`:                "ack_timeout 1ms: must be from 100ms to 10m0s",
		`{"ack_timeout": "-1s"}`:                "ack_timeout -1s",
		`{"max_pending": -1}`:                   "max_pending -1: must be from 1 to 65536",
		`{"max_message_bytes": 1}`:              "max_message_bytes 1: must be from 1024 to 67108864",
		`{"user": "joe"}`:                       "it takes all three",
		`{"mechanism": "PLAIN", "user": "joe"}`: "it takes all three",
		`{"mechanism": "GSSAPI", "user": "joe", "password": "env:P"}`: `mechanism is "GSSAPI": must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512`,
		`{"mechanism": "PLAIN", "user": "joe", "password": "geheim"}`: "password",
		`{"tls": {"ca": "ca.pem"}}`:                                   `tls.ca is "ca.pem": must be an absolute path`,
		`{"tls": {"cert": "/c.pem"}}`:                                 "takes both files",
		`{"tls": {"min_version": "1.1"}}`:                             `tls.min_version is "1.1": must be 1.2 or 1.3`,
		`{"guard": {"deny": ["x"]}}`:                                  "guard.deny",
		`{"client_id": "` + strings.Repeat("x", 256) + `"}`:           "client_id has 256 bytes",
	} {
		_, err := parse(sinks.Target{URL: "kafka://a:9092/t", Options: json.RawMessage(options)})
		if _, ok := errors.AsType[sinks.OptionsError](err); !ok || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v, want %q", options, err, want)
		}
	}
}

// What is left out has its default; the subscription's settings go before that.
func TestDefaults(t *testing.T) {
	s, err := open(sinks.Target{URL: "kafka://a:9092/t"}, sinks.Surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Limits() != (sinks.Limits{Lanes: DefaultLanes, Batch: DefaultBatch}) || time.Duration(s.AckTimeout) != DefaultAckTimeout || s.MaxPending != DefaultMaxPending {
		t.Errorf("%+v, %+v", s.Limits(), s.settings)
	}
	for timeout, want := range map[time.Duration]time.Duration{time.Millisecond: leastAckTimeout, 24 * time.Hour: mostAckTimeout} {
		s, err := open(sinks.Target{URL: "kafka://a:9092/t", Timeout: timeout}, sinks.Surroundings{})
		if err != nil || time.Duration(s.AckTimeout) != want {
			t.Fatalf("a timeout of %v becomes %v: %v", timeout, s.AckTimeout, err)
		}
		s.Close()
	}
	own, err := open(sinks.Target{URL: "kafka://a:9092/t", Timeout: time.Minute, Lanes: 2, Batch: 3}, sinks.Surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if own.Limits() != (sinks.Limits{Lanes: 2, Batch: 3}) || time.Duration(own.AckTimeout) != time.Minute {
		t.Errorf("%+v, %v", own.Limits(), own.AckTimeout)
	}
}

// What a target refers to has to be of use where it is going to be opened.
func TestReferencesOfNoUse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/empty", "")
	for options, want := range map[string]string{
		`{"mechanism": "PLAIN", "user": "joe", "password": "file:` + dir + `/missing"}`: "password",
		`{"mechanism": "PLAIN", "user": "joe", "password": "file:` + dir + `/empty"}`:   "cannot be used",
		`{"tls": {"ca": "` + dir + `/missing"}}`:                                        "tls.ca",
		`{"tls": {"ca": "` + dir + `/empty"}}`:                                          "tls.ca",
		`{"tls": {"cert": "` + dir + `/empty", "key": "` + dir + `/empty"}}`:            "tls.cert",
	} {
		target := sinks.Target{URL: "kafka://a:9092/t", Options: json.RawMessage(options)}
		if err := Destination.Check(target, &secret.Store{Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", options, err, want)
		}
		if err := Destination.Check(target, nil); err != nil {
			t.Errorf("%s, elsewhere: %v", options, err)
		}
	}
}
