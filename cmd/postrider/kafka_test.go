package main

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka gets each message, in the order of its key, though its topic is missing at first and relays are killed while they deliver. The
// cluster is a fake one.
func TestMessagesGoToKafka(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	broker := k.ListenAddrs()[0]
	on(t, db.URL(), "subs", "apply", writeFile(t, "subscriptions:\n  - {name: copy, topics: [a.>], sink: 'kafka://"+broker+"/later', batch: 20}\n")).ok()
	on(t, db.URL(), "doctor").fails("failed").has("topic later: UNKNOWN_TOPIC_OR_PARTITION", "--create --topic later")
	const n, keys, kills = 3000, 28, 4
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_LEASE=1s"}
	enqueue := func(from, to int) {
		db.Exec(t, fmt.Sprintf("INSERT INTO postrider.outbox (topic, key, payload) SELECT 'a.b', 'k' || i %% %d, to_jsonb(i) FROM generate_series(%d, %d) i", keys, from, to-1))
	}
	stored := func() (all int) {
		for _, p := range k.PartitionInfos("later") {
			all += int(p.HighWatermark)
		}
		return all
	}
	pool := db.Pool(t)
	for kill := range kills {
		enqueue(kill*n/kills, (kill+1)*n/kills)
		p := start(t, env...)
		if kill == 0 {
			eventually(t, "it is said that the topic is missing", func() bool {
				return ask[bool](t, pool, "SELECT coalesce(trouble, '') LIKE 'destination is misconfigured: the topic does not exist: create it%' FROM postrider.subscription_status")
			})
			on(t, db.URL(), "doctor").fails("failed").has(`fail subscriptions "copy": destination is misconfigured`)
			if err := k.CreateTopic("later", 3, nil); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "some have arrived", func() bool { return stored() > kill*n/kills })
		p.signal(syscall.SIGKILL)
	}
	start(t, env...)
	eventually(t, "all are settled", func() bool {
		return ask[bool](t, pool, allDone)
	})
	on(t, db.URL(), "doctor").ok("topic later has one replica", "1 subscription, none in trouble")
	wantInOrder(t, broker, stored(), n, keys)
}

// wantInOrder reads so many records, and fails the test unless the first appearances of all n messages are in the order of their keys.
func wantInOrder(t *testing.T, broker string, records, n, keys int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics("later"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	last, seen := map[string]int{}, map[int]bool{}
	for read := 0; read < records; {
		fetched := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records were read: %v", read, records, fetched.Errors())
		}
		for _, r := range fetched.Records() {
			read++
			i, err := strconv.Atoi(string(r.Value))
			if err != nil || string(r.Key) != "k"+strconv.Itoa(i%keys) {
				t.Fatalf("key %s has the value %q: %v", r.Key, r.Value, err)
			}
			if seen[i] {
				continue // again, after a relay was killed
			}
			if seen[i] = true; i < last[string(r.Key)] {
				t.Errorf("key %s: %d came after %d", r.Key, i, last[string(r.Key)])
			}
			last[string(r.Key)] = i
		}
	}
	if len(seen) != n {
		t.Errorf("%d messages are there, want %d", len(seen), n)
	}
}
