package main

import (
	"fmt"
	"strconv"
	"syscall"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postrider/postrider/internal/rabbittest"
)

// RabbitMQ gets each message, in the order of its key, though its exchange is missing at first, it is killed and has an alarm of its memory, and relays
// are killed while they deliver.
func TestMessagesGoToRabbitMQ(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	rabbit := rabbittest.Start(t)
	t.Cleanup(func() {
		if err := rabbit.End(); err != nil {
			t.Error(err)
		}
	})
	on(t, db.URL(), "subs", "apply", writeFile(t, "subscriptions:\n  - {name: copy, topics: [a.>], sink: 'amqp://"+rabbit.Addr()+"?exchange=later', batch: 20, timeout: 1s}\n")).ok()
	on(t, db.URL(), "doctor").fails("failed").has(`there is no exchange "later"`, "declare exchange name='later'")
	const n, keys, rounds, more = 3000, 28, 4, 100
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_LEASE=1s"}
	pool := db.Pool(t)
	trouble := func(like string) func() bool {
		return func() bool {
			return ask[bool](t, pool, "SELECT coalesce(trouble, '') LIKE '"+like+"' FROM postrider.subscription_status")
		}
	}
	stored := func() (count int) {
		rabbit.Channel(t, func(c *amqp.Channel) error {
			q, err := c.QueueDeclarePassive("all", true, false, false, false, nil)
			count = q.Messages
			return err
		})
		return count
	}
	for round := range rounds {
		db.Exec(t, fmt.Sprintf("INSERT INTO postrider.outbox (topic, key, payload) SELECT 'a.b', 'k' || i %% %d, to_jsonb(i) FROM generate_series(%d, %d) i", keys, round*n/rounds, (round+1)*n/rounds-1))
		p := start(t, env...)
		switch round {
		case 0:
			eventually(t, "it is said that the exchange is missing", trouble("destination is misconfigured: NOT_FOUND%create the exchange%"))
			rabbit.Declare(t, "later", "all", nil)
		case 1:
			rabbit.Kill()
			eventually(t, "the destination is down", trouble("%connection refused%"))
			if err := rabbit.Restart(); err != nil {
				t.Fatal(err)
			}
		case 2:
			rabbit.Ctl(t, "set_vm_memory_high_watermark", "absolute", "1000000")
			db.Exec(t, fmt.Sprintf("INSERT INTO postrider.outbox (topic, key, payload) SELECT 'a.b', 'alarm', to_jsonb(-i) FROM generate_series(1, %d) i", more))
			eventually(t, "the alarm is told of", trouble("%it has an alarm%"))
			eventually(t, "the time of the alarm is told", func() bool { return p.told("blocked_seconds_total", "amqp") > 0 })
			if p.told("connections_total", "amqp") < 1 {
				t.Error("no connection is told of")
			}
			rabbit.Ctl(t, "set_vm_memory_high_watermark", "absolute", "2GB")
		}
		eventually(t, "some have arrived", func() bool { return stored() > round*n/rounds })
		p.signal(syscall.SIGKILL)
	}
	start(t, env...)
	eventually(t, "all are settled", func() bool {
		return ask[bool](t, pool, allDone)
	})
	on(t, db.URL(), "doctor").ok("1 subscription, none in trouble")
	last, seen := map[string]int{}, map[string]bool{}
	for _, m := range rabbit.Drain(t, "all") {
		key := fmt.Sprint(m.Headers["postrider-key"])
		i, err := strconv.Atoi(string(m.Body))
		if err != nil {
			t.Fatalf("key %s has the value %q", key, m.Body)
		}
		if i < 0 {
			i = -i
		}
		if seen[m.MessageId] {
			continue // again, after something was killed
		}
		if seen[m.MessageId] = true; i < last[key] {
			t.Errorf("key %s: %d came after %d", key, i, last[key])
		}
		last[key] = i
	}
	if len(seen) != n+more {
		t.Errorf("%d messages are there, want %d", len(seen), n+more)
	}
}
