package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postrider/postrider/internal/amazontest"
)

// cloudMessage is one as a cloud has it.
type cloudMessage struct{ id, key, payload string }

// cloud is a service that messages go to.
type cloud struct {
	sink, options string
	missing       string // what is said while the queue or topic is not there
	once          bool   // it drops what it has had
	make          func()
	arrived       func() []cloudMessage
	fail          func(failing bool) // what is sent is taken, as far as that is possible, and answered with an error that may pass
}

// cloudSecret is how relays get what the server of SQS and SNS knows.
const cloudSecret = "POSTRIDER_SECRET_CLOUD=" + amazontest.SecretAccessKey

func startAmazon(t *testing.T, url, name string) *cloud {
	server := amazontest.New(t)
	return &cloud{
		sink:    url + "endpoint=" + server.URL,
		options: fmt.Sprintf("{access_key_id: %s, secret_access_key: 'env:POSTRIDER_SECRET_CLOUD'}", amazontest.AccessKeyID),
		missing: "create it",
		make:    func() { server.Have(name, true) },
		arrived: func() (list []cloudMessage) {
			for _, m := range server.Taken() {
				list = append(list, cloudMessage{m.Attributes["message_id"], m.Attributes["key"], m.Body})
			}
			return list
		},
		fail: func(failing bool) {
			server.Fail(func(string, []string) *amazontest.Fault {
				if failing {
					return &amazontest.Fault{Status: 503, Code: "ServiceUnavailable", Take: true}
				}
				return nil
			})
		},
	}
}

// failing is a pstest.Reactor.
type failing struct{ atomic.Bool }

// React implements pstest.Reactor.
func (f *failing) React(any) (handled bool, answer any, err error) {
	if !f.Load() {
		return false, nil, nil
	}
	return true, &pubsubpb.PublishResponse{}, status.Error(codes.Unavailable, "for a while")
}

func startPubSub(t *testing.T) *cloud {
	f := &failing{}
	server := pstest.NewServer(pstest.ServerReactorOption{FuncName: "Publish", Reactor: f})
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &cloud{
		sink: "pubsub://project-1/later?endpoint=http://" + server.Addr, options: "{}", missing: "create the topic",
		make: func() {
			if _, err := server.GServer.CreateTopic(context.Background(), &pubsubpb.Topic{Name: "projects/project-1/topics/later"}); err != nil {
				t.Error(err)
			}
		},
		arrived: func() (list []cloudMessage) {
			for _, m := range server.Messages() { // as they were published
				list = append(list, cloudMessage{m.Attributes["ce-id"], m.Attributes["postrider-key"], string(m.Data)})
			}
			return list
		},
		fail: f.Store,
	}
}

// Queues and topics of clouds get each message, in the order of its key, though they are missing at first, the service fails for a while, and relays are
// killed while they deliver.
func TestMessagesGoToClouds(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) *cloud{
		"sqs": func(t *testing.T) *cloud {
			c := startAmazon(t, "sqs://later.fifo?region=eu-central-1&", "later.fifo")
			c.once = true
			return c
		},
		"sns": func(t *testing.T) *cloud {
			return startAmazon(t, "sns:arn:aws:sns:eu-central-1:123456789012:later?", "later")
		},
		"pubsub": startPubSub,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goesThrough(t, start(t))
		})
	}
}

// goesThrough has relays deliver to a cloud, and looks at what has come.
func goesThrough(t *testing.T, c *cloud) {
	db := newDB(t)
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_LEASE=1s", cloudSecret}
	file := writeFile(t, "subscriptions:\n  - {name: copy, topics: [a.>], sink: '"+c.sink+"', batch: 20, timeout: 2s, options: "+c.options+"}\n")
	runCommand(t, env, "", "subs", "apply", file).ok()
	const n, keys, rounds = 1500, 7, 3
	pool := db.Pool(t)
	trouble := func(like string) func() bool {
		return func() bool {
			return ask[bool](t, pool, "SELECT coalesce(trouble, '') LIKE '"+like+"' FROM postrider.subscription_status")
		}
	}
	for round := range rounds {
		db.Exec(t, fmt.Sprintf("INSERT INTO postrider.outbox (topic, key, payload) SELECT 'a.b', 'k' || i %% %d, to_jsonb(i) FROM generate_series(%d, %d) i", keys, round*n/rounds, (round+1)*n/rounds-1))
		c.fail(round == 1)
		p := start(t, env...)
		switch round {
		case 0:
			eventually(t, "it is said that it is missing", trouble("destination is misconfigured: %"+c.missing+"%"))
			c.make()
		case 1:
			eventually(t, "the service is down", trouble("destination is down:%"))
			c.fail(false)
		}
		eventually(t, "some have arrived", func() bool { return len(c.arrived()) > round*n/rounds })
		p.signal(syscall.SIGKILL)
	}
	start(t, env...)
	eventually(t, "all are settled", func() bool { return ask[bool](t, pool, allDone) })
	wantAll(t, c, n, keys)
}

// wantAll fails the test unless the first appearances of all messages are in the order of their keys.
func wantAll(t *testing.T, c *cloud, n, keys int) {
	t.Helper()
	last, seen, all := map[string]int{}, map[string]bool{}, c.arrived()
	for _, m := range all {
		i, err := strconv.Atoi(m.payload)
		if err != nil || m.key != "k"+strconv.Itoa(i%keys) {
			t.Fatalf("key %s has the value %q: %v", m.key, m.payload, err)
		}
		if seen[m.id] {
			continue // again, after a relay was killed or an answer was an error
		}
		if seen[m.id] = true; i < last[m.key] {
			t.Errorf("key %s: %d came after %d", m.key, i, last[m.key])
		}
		last[m.key] = i
	}
	if len(seen) != n || c.once && len(all) != n {
		t.Errorf("%d messages are there, %d in all, want %d", len(seen), len(all), n)
	}
}
