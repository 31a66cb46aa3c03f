package torture

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// hugeSize are in one transaction.
	hugeSize = 300_000
	// hugeKeys is the number of keys among them.
	hugeKeys = 500
	// memoryBound is half of what is promised: bytes resident at any time. The promise has room for the whole transaction.
	memoryBound = 128 << 20
)

// commitHuge commits one transaction of n messages: all of them go to a stream, every 50th to another and to an endpoint too.
func (w *world) commitHuge(t *testing.T, n int) {
	t.Helper()
	conn, err := connect(t.Context(), w.db.url("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	one := &producer{producers: w.apps, name: "huge"}
	err = one.transact(t.Context(), conn, func(tx *tx) error {
		_, err := conn.Exec(t.Context(), `INSERT INTO postrider.outbox (topic, key, payload)
			SELECT CASE n % 50 WHEN 0 THEN 'orders.created' ELSE 'bulk.load' END, 'huge/' || n % $3::int,
				jsonb_build_object('id', $1::bigint + n, 'order', n + 1, 'pad', $4::text)
			FROM generate_series(0, $2::int - 1) n`, tx.number*txMessages, n, hugeKeys, padding)
		for i := range n {
			m := Message{ID: tx.number*txMessages + int64(i), Topic: "bulk.load", Key: fmt.Sprintf("huge/%d", i%hugeKeys), Order: int64(i + 1)}
			if i%50 == 0 {
				m.Topic = "orders.created"
			}
			tx.messages = append(tx.messages, m)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// checkMemory looks at the most that the running relay ever had resident.
func (w *world) checkMemory(t *testing.T, r *relay) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return // the kernel keeps the mark
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid()))
	if err != nil {
		t.Fatal(err)
	}
	kilobytes, err := strconv.Atoi(string(highWater.FindSubmatch(text)[1]))
	if err != nil {
		t.Fatal(err)
	}
	w.say("the relay had at most %d MiB resident", kilobytes>>10)
	if kilobytes<<10 >= memoryBound {
		t.Errorf("the relay had %d MiB resident, allowed were less than %d", kilobytes>>10, memoryBound>>20)
	}
}

// storedAtLeast returns an error while a subscription's stream holds fewer messages.
func (w *world) storedAtLeast(t *testing.T, s *subscription, n int) error {
	js, err := jetstream.New(w.nats.Conn())
	if err != nil {
		return err
	}
	stream, err := js.Stream(t.Context(), s.stream.config.Name)
	if err != nil {
		return err
	}
	if is := stream.CachedInfo().State.Msgs; is < uint64(n) {
		return fmt.Errorf("%d messages have arrived, %d were to", is, n)
	}
	return nil
}

// killInTheMiddle kills the relay once a third of the messages has arrived. It returns what the database holds as settled then,
// and how much had arrived.
func (w *world) killInTheMiddle(t *testing.T, s *subscription, n int) (saved map[int64]bool, arrived int) {
	t.Helper()
	eventually(t, 2*time.Minute, func() error {
		if err := w.storedAtLeast(t, s, n/3); err != nil {
			return err
		}
		begun, err := one[bool](t.Context(), w.db, "SELECT after_id IS NOT NULL OR done <> '{}' FROM postrider.cursors WHERE subscription = $1", s.Name)
		if err == nil && !begun {
			err = fmt.Errorf("nothing of it has been saved")
		}
		return err
	})
	w.checkMemory(t, w.relays[0])
	w.fault("kill", w.relays[0].kill)
	eventually(t, time.Minute, func() error { // what the server was told before is still carried out
		n, err := one[int](t.Context(), w.db, "SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'relay'")
		if err == nil && n > 0 {
			err = fmt.Errorf("%d sessions of the dead relay are left", n)
		}
		return err
	})
	ids, err := ask[int64](t.Context(), w.db, `SELECT (o.payload ->> 'id')::bigint FROM postrider.outbox o, postrider.cursors c
		WHERE c.subscription = $1 AND (pg_visible_in_snapshot(o.xid, c.base) OR c.done @> o.id
			OR o.id <= c.after_id AND pg_visible_in_snapshot(o.xid, c.target))`, s.Name)
	if err == nil {
		err = s.stream.catchUp(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	saved = make(map[int64]bool, len(ids))
	for _, id := range ids {
		saved[id] = true
	}
	return saved, len(s.book.all())
}

// One transaction of 300,000 messages goes through a relay of little memory, which is killed in the middle of it, and goes on in
// the middle.
func TestHugeTransaction(t *testing.T) {
	for follow, c := range map[string]struct {
		n      int
		memory string // the relay's bound: it has no room for all
	}{"stream": {hugeSize, "64MiB"}, "timer": {hugeSize / 5, "4MiB"}} {
		t.Run(follow, func(t *testing.T) {
			t.Parallel()
			n := c.n
			w := stage{Config: Config{Follow: follow, Relays: 1}, only: []string{"events", "once", "hooks"}, lean: true,
				env: append(slices.Clone(soloRelay), "POSTRIDER_MEMORY_LIMIT="+c.memory)}.set(t)
			events := w.subs[0]
			w.play(t)
			before := w.measured(t)
			w.commitHuge(t, n)
			committed := time.Now()
			saved, arrived := w.killInTheMiddle(t, events, n)
			w.say("killed %v after COMMIT: %d of %d had arrived, %d of them were saved", time.Since(committed).Round(time.Millisecond), arrived, n, len(saved))
			if len(saved) == 0 || arrived >= n {
				t.Fatalf("it was not in the middle: %d of %d had arrived, %d were saved", arrived, n, len(saved))
			}
			age := value[float64](t, w, "SELECT extract(epoch FROM $1 - saved_at)::float8 FROM postrider.cursors WHERE subscription = $2", w.incidents[0].From, events.Name)
			if longest := saveReach.Seconds(); age > longest {
				t.Errorf("progress was last saved %.1f s before the kill, promised is a save every %v", age, saveInterval)
			}
			w.play(t)
			eventually(t, 2*time.Minute, func() error { return w.storedAtLeast(t, events, n) })
			w.checkMemory(t, w.relays[0])
			w.finish(t, before)
			again := 0
			for _, a := range events.book.all()[arrived:] {
				if saved[a.ID] {
					again++
				}
			}
			if again > 0 {
				t.Errorf("%d messages came again although they had been saved", again)
			}
		})
	}
}
