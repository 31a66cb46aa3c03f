package main

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	mochipackets "github.com/mochi-mqtt/server/v2/packets"
)

// heard is what subscribers of a broker have got: for each key the numbers in the order of their first appearance.
type heard struct {
	mu    sync.Mutex
	seen  map[string]bool
	byKey map[string][]int
}

func (h *heard) hear(_ *mochi.Client, _ mochipackets.Subscription, p mochipackets.Packet) {
	said := map[string]string{}
	for _, u := range p.Properties.User {
		said[u.Key] = u.Val
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen[said["id"]] {
		return // again, after something was killed
	}
	h.seen[said["id"]] = true
	i, err := strconv.Atoi(string(p.Payload))
	if err != nil {
		i = -1
	}
	h.byKey[said["postrider-key"]] = append(h.byKey[said["postrider-key"]], i)
}

func (h *heard) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.seen)
}

// door is a broker's: open to everybody, or to nobody.
type door struct {
	mochi.HookBase
	open bool
}

// Provides implements mochi.Hook.
func (*door) Provides(b byte) bool { return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck }

// OnConnectAuthenticate lets all in, or none.
func (d *door) OnConnectAuthenticate(*mochi.Client, mochipackets.Packet) bool { return d.open }

// OnACLCheck allows all.
func (*door) OnACLCheck(*mochi.Client, string, bool) bool { return true }

// startMQTT starts a broker at an address, to whose topics h is subscribed; without h it lets nobody in.
func startMQTT(t *testing.T, address string, h *heard) *mochi.Server {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler), InlineClient: true})
	for _, err := range []error{server.AddHook(&door{open: h != nil}, nil), server.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: address})), server.Serve()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if h != nil {
		if err := server.Subscribe("shop/#", 1, h.hear); err != nil {
			t.Fatal(err)
		}
	}
	return server
}

// A broker of MQTT gets each message, in the order of its key, though it lets no relay in at first, it goes away and comes back, and relays are
// killed while they deliver.
func TestMessagesGoToMQTT(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	on(t, db.URL(), "subs", "apply", writeFile(t, "subscriptions:\n  - {name: copy, topics: [a.>], sink: 'mqtt://"+address+"?prefix=shop/', batch: 20, timeout: 2s}\n")).ok()
	h := &heard{seen: map[string]bool{}, byKey: map[string][]int{}}
	broker := startMQTT(t, address, nil)
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	restart := func() {
		if err := broker.Close(); err != nil {
			t.Fatal(err)
		}
		broker = startMQTT(t, address, h)
	}
	on(t, db.URL(), "doctor").fails("failed").has("the broker does not let us in: user or password is wrong")
	const n, keys, rounds = 3000, 28, 4
	pool := db.Pool(t)
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL(), "POSTRIDER_LEASE=1s"}
	for round := range rounds {
		db.Exec(t, fmt.Sprintf("INSERT INTO postrider.outbox (topic, key, payload) SELECT 'a.b', 'k' || i %% %d, to_jsonb(i) FROM generate_series(%d, %d) i", keys, round*n/rounds, (round+1)*n/rounds-1))
		p := start(t, env...)
		if round == 0 {
			eventually(t, "it is said that the broker lets nobody in", func() bool {
				return ask[bool](t, pool, "SELECT coalesce(trouble, '') LIKE 'destination is misconfigured:%the broker does not let us in%' FROM postrider.subscription_status")
			})
		}
		if round < 2 {
			restart()
		}
		eventually(t, "some have arrived", func() bool { return h.count() > round*n/rounds })
		p.signal(syscall.SIGKILL)
	}
	start(t, env...)
	eventually(t, "all are settled", func() bool {
		return ask[bool](t, pool, allDone)
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.seen) != n || len(h.byKey) != keys {
		t.Errorf("%d messages of %d keys are there, want %d of %d", len(h.seen), len(h.byKey), n, keys)
	}
	for key, list := range h.byKey {
		for at, i := range list {
			if at > 0 && i < list[at-1] || key != "k"+strconv.Itoa(i%keys) {
				t.Errorf("key %s: %d came after %v", key, i, list[:at])
				break
			}
		}
	}
}
