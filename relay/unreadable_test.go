package relay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// hugeNumbers is a document of n numbers, each 131,072 bytes as text and 16 as stored.
func hugeNumbers(n int) string {
	return fmt.Sprintf(`(SELECT jsonb_agg('1e131071'::jsonb) FROM generate_series(1, %d))`, n)
}

// unbound lets messages in that an INSERT refuses, as there may be from before it did, or by whatever copies rows.
func (b *bench) unbound() {
	b.Exec(`ALTER TABLE postrider.outbox DROP CONSTRAINT exactly_one_of_payload_and_body;
		ALTER DOMAIN postrider.headers DROP CONSTRAINT headers_are_within_the_limit`)
}

// insert puts a message with the payload that the expression gives into the outbox, as an application does.
func (b *bench) insert(topic, key, columns, values string) int64 {
	b.t.Helper()
	var id int64
	sql := fmt.Sprintf(`INSERT INTO postrider.outbox (topic, key, %s) VALUES ($1, nullif($2, ''), %s) RETURNING id`, columns, values)
	if err := b.App.QueryRow(b.t.Context(), sql, topic, key).Scan(&id); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// dies waits until the message is a dead letter, and returns the reason.
func (b *bench) dies(name string, id int64) (reason string) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("message %d of %s is dead", id, name), func() bool {
		reason = scalar[string](b, `SELECT coalesce((SELECT coalesce(reason, '') FROM postrider.deliveries WHERE subscription = $1 AND id = $2 AND status = 'dead'), '')`, name, id)
		return reason != ""
	})
	return reason
}

// A row that cannot be read is a dead letter of those who want it, with its reason, and costs others nothing: not their live
// messages, not their passes, not the next message of its key.
func TestUnreadableRowIsIsolated(t *testing.T) {
	for _, follow := range []Follow{FollowTimer, FollowStream} {
		t.Run(string(follow), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.unbound()
			others := b.subscribe("others", "{good.>}", "{}", "now")
			r, g := b.startWatched(func(c *Config) { c.Follow = follow })
			if follow == FollowStream {
				g.follows(1)
			}
			b.insert("nobody.wants", "k", "payload", hugeNumbers(9000))
			b.Publish("good.live", "k", `1`, `2`, `3`)
			eventually(t, "others get their live messages", func() bool { return others.count() == 3 })

			wants := b.subscribe("wants", "{bad,good.>}", "{}", "earliest")
			bad := b.insert("bad", "k", "payload", hugeNumbers(9000))
			b.Publish("good.after", "k", `4`, `5`)
			eventually(t, "those who want it get all the rest", func() bool { return wants.count() == 5 && others.count() == 5 })
			if reason := b.dies("wants", bad); !strings.Contains(reason, "1.18 GB as text") {
				t.Errorf("reason %q does not say how large it is", reason)
			}
			late := b.subscribe("late", "{good.>}", "{}", "earliest")
			eventually(t, "a pass over it gets all", func() bool { return late.count() == 5 })
			if err := r.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
			b.Exec("SELECT postrider.redrive('wants', NULL)")
			eventually(t, "it is dead again", func() bool {
				return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE state = 'dead' AND updated_at > parked_at") == 1
			})
			if follow == FollowStream {
				eventually(t, "the log says what the stream could not carry", func() bool {
					return g.logged("it cannot carry a message") == 1 && g.logged("topic nobody.wants")+g.logged("topic bad") == 1
				})
			}
		})
	}
}

// Whatever a row has wrong is its own.
func TestUnreadableKinds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.unbound()
	wants := b.subscribe("wants", "{>}", "{}", "now")
	held := b.subscribe("held", "{>}", `{"on_dead": "hold"}`, "now")
	b.start(func(c *Config) { c.Follow = FollowTimer; c.largest = 8 << 20 })
	for _, c := range []struct{ name, columns, values, reason string }{
		{"many digits stored in a few bytes", "payload", hugeNumbers(50), ""},
		{"too many digits", "payload", hugeNumbers(100), "13.1 MB"},
		{"many digits stored in 1.5 kB", "payload", hugeNumbers(5000), "655.4 MB"},
		{"a scale", "payload", `(SELECT jsonb_agg(round(1.0, 16383)) FROM generate_series(1, 8000))`, "131.1 MB"},
		{"control characters", "payload", `to_jsonb(repeat(chr(1), 100000))`, ""},
		{"a long key", "payload, key_", `'1'`, "may have 8192 at most"},
		{"a body", "body", `decode(repeat('00', 9000000), 'hex')`, "9.0 MB"},
		{"headers", "headers, payload", `jsonb_build_object('x', repeat(chr(1), 2000000)), '1'`, "12.0 MB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, count := wants.count(), held.count()
			id := b.insert("a.b", "", strings.TrimSuffix(c.columns, ", key_"), c.values)
			if strings.HasSuffix(c.columns, "key_") {
				id = b.insert("a.b", strings.Repeat("k", 9000), "payload", c.values)
				before, count = before+1, count+1
			}
			b.Publish("good", "k", `{}`)
			if c.reason == "" {
				before, count = before+1, count+1
			}
			eventually(t, "all others arrive", func() bool { return wants.count() == before+1 && held.count() == count+1 })
			if c.reason == "" {
				return
			}
			for _, name := range []string{"wants", "held"} {
				if reason := b.dies(name, id); !strings.Contains(reason, c.reason) {
					t.Errorf("%s: reason %q does not contain %q", name, reason, c.reason)
				}
			}
		})
	}
}

// breakTOAST makes all values of the outbox unreadable that are stored out of line, and returns what mends them.
func (b *bench) breakTOAST() (mend func()) {
	set := func(valid bool) {
		b.Exec(`UPDATE pg_index SET indisvalid = $1 WHERE indrelid IN (
			SELECT c.reltoastrelid FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = 'postrider.outbox'::regclass)`, valid)
	}
	set(false)
	return func() { set(true) }
}

// noise is a document of about so many bytes that does not get smaller.
func noise(bytes int) string {
	return fmt.Sprintf(`(SELECT jsonb_agg(md5(g::text || clock_timestamp())) FROM generate_series(1, %d) g)`, bytes/36)
}

// Damaged values are like any others that cannot be read, of whatever size, in passes and live, scheduled too. What is mended can
// be had after all.
func TestDamagedRowIsIsolated(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	wants := b.subscribe("wants", "{>}", "{}", "now")
	small, large := b.insert("a.b", "k", "payload", noise(5000)), b.insert("a.b", "k", "payload", noise(300_000))
	later := b.insert("a.b", "k", "payload, deliver_at", noise(200_000)+`, now() + interval '1 second'`)
	mend := b.breakTOAST()
	b.Publish("a.b", "k", `1`, `2`)
	r, g := b.startWatched(func(c *Config) { c.Follow = FollowTimer })
	eventually(t, "the others arrive", func() bool { return wants.count() == 2 })
	for _, id := range []int64{small, large, later} {
		if reason := b.dies("wants", id); !strings.Contains(reason, "no valid index found for toast relation") {
			t.Errorf("message %d is dead because %q", id, reason)
		}
	}
	if n := g.logged("each is read by itself now"); n == 0 || n > 3 {
		t.Errorf("%d lines say that messages are read by themselves", n)
	}
	mend()
	live := b.insert("a.b", "k", "payload", noise(5000))
	eventually(t, "what comes later arrives", func() bool { return wants.count() == 3 })
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	b.Exec("SELECT postrider.redrive('wants', NULL)")
	eventually(t, "what was mended arrives", func() bool { return wants.count() == 6 })
	if missing := wants.missing([]int64{small, large, later, live}); len(missing) > 0 {
		t.Errorf("%v are missing", missing)
	}
}

// A window whose rows cannot be read together is read without what they carry: nobody has to make a pass for it, and each message but
// the damaged one arrives.
func TestDamagedRowWhileLive(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	wants := b.subscribe("wants", "{>}", "{}", "now")
	_, g := b.startWatched(func(c *Config) { c.Follow = FollowTimer })
	first := b.Publish("a.b", "k", `1`)
	eventually(t, "it is live", func() bool { return wants.count() == 1 })

	tx, err := b.App.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids [3]int64
	for i, values := range []string{"'2'", noise(5000), "'3'"} {
		if err := tx.QueryRow(t.Context(), "INSERT INTO postrider.outbox (topic, key, payload) VALUES ('a.b', 'k', "+values+") RETURNING id").Scan(&ids[i]); err != nil {
			t.Fatal(err)
		}
	}
	mend := b.breakTOAST()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reason := b.dies("wants", ids[1]); !strings.Contains(reason, "no valid index found for toast relation") {
		t.Errorf("it is dead because %q", reason)
	}
	eventually(t, "the others arrive", func() bool { return wants.count() == 3 })
	if n := g.logged("feed: a message cannot be read with the others"); n != 1 {
		t.Errorf("%d lines say that the feed reads messages by themselves, want one", n)
	}
	mend()
	large := b.insert("a.b", "k", "payload", noise(5000))
	eventually(t, "what comes later arrives", func() bool { return wants.count() == 4 })
	if want := []int64{first[0], ids[0], ids[2], large}; !slices.Equal(wants.rows(), want) {
		t.Errorf("delivered %v, want %v", wants.rows(), want)
	}
	if n := g.sum("passes_total", "wants"); n != 1 {
		t.Errorf("%v passes, want that of the start alone", n)
	}
}

// A large message that fails is parked with a copy, which outlives the outbox, and is offered as it was.
func TestLargeMessageIsRetried(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	wants := b.subscribe("wants", "{>}", `{"backoff_initial": "50ms", "backoff_max": "50ms", "max_attempts": 1000}`, "now")
	var fail atomic.Bool
	fail.Store(true)
	wants.answer(func(sinks.Delivery) error {
		if fail.Load() {
			return sinks.Retryable(errors.New("not yet"), 0)
		}
		return nil
	})
	b.start(func(c *Config) { c.Follow = FollowTimer })
	var want []string
	for _, values := range []string{noise(300_000), noise(5000), `to_jsonb(repeat('x', 1000000))`} {
		id := b.insert("a.b", "", "payload, headers", values+`, '{"h": "v"}'`)
		want = append(want, scalar[string](b, "SELECT payload::text FROM postrider.outbox WHERE id = $1", id))
	}
	body := b.insert("a.b", "", "body", `decode(repeat('00ff', 2000000), 'hex')`)
	want = append(want, scalar[string](b, "SELECT encode(body, 'hex') FROM postrider.outbox WHERE id = $1", body))
	eventually(t, "all have been tried twice", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE attempts >= 2") == len(want)
	})
	b.Exec("DELETE FROM postrider.outbox")
	fail.Store(false)
	eventually(t, "all are delivered", func() bool { return wants.count() == len(want) })
	for _, d := range wants.deliveries() {
		text := string(d.Payload)
		if !d.JSON {
			text = hex.EncodeToString(d.Payload)
		}
		if !slices.Contains(want, text) {
			t.Errorf("message %d was delivered as %d other bytes", d.ID, len(d.Payload))
		}
		if headers := string(d.Headers); d.JSON && headers != `{"h": "v"}` {
			t.Errorf("message %d has the headers %s", d.ID, headers)
		}
	}
	eventually(t, "nothing is left parked", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.parked") == 0 })
}

// A message that ends the connection of whoever reads it, as it does when the server does not survive that, is put off after a few
// times instead of being read over and over; the others arrive.
func TestMessageThatBreaksConnections(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	wants := b.subscribe("wants", "{>}", "{}", "now")
	bad, good := b.insert("a.b", "bad", "payload", `'["crash"]'::jsonb || `+noise(100_000)), b.insert("a.b", "good", "payload", noise(100_000))
	b.Exec(`CREATE FUNCTION postrider.crash() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT pg_terminate_backend(pg_backend_pid())';
		CREATE OR REPLACE FUNCTION postrider.long_numbers(document jsonb, most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN
			IF document ->> 0 = 'crash' THEN
				PERFORM postrider.crash();
			END IF;
			RETURN 0;
		END $$`)
	b.start(func(c *Config) { c.Follow = FollowTimer })
	eventually(t, "the message waits for a retry", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.parked WHERE id = $1 AND state = 'retrying' AND reason LIKE 'the connection broke 3 times%'", bad) == 1
	})
	b.Publish("a.b", "", `1`)
	eventually(t, "the others arrive", func() bool { return len(wants.missing([]int64{good})) == 0 && wants.distinct() == 2 })
}

// What has to be parked and cannot be saved holds no more memory than the runner's share: intake stops.
func TestUnsavedCopiesStopIntake(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.subscribe("all", "{>}", "{}", "now")
	const n, limit = 200, 1 << 20
	b.Exec(`INSERT INTO postrider.outbox (topic, body, deliver_at) SELECT 'a', decode(repeat('00', 50000), 'hex'), now() + interval '1 hour' FROM generate_series(1, $1::int)`, n)
	lock, err := b.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := b.start(func(c *Config) { c.Follow, c.MemoryLimit = FollowTimer, limit })
	eventually(t, "the subscription is delivered", func() bool {
		return scalar[int](b, "SELECT count(*) FROM postrider.cursors WHERE owner IS NOT NULL") == 1
	})
	if _, err := lock.Exec(t.Context(), "SELECT FROM postrider.cursors FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "intake stops", func() bool {
		run := r.now.Load().running()[subscription.Whole("all")]
		if run == nil {
			return false
		}
		has := run.Inside()
		if most := has.MostUnsaved + 2*message.InlineBytes; has.Unsaved > most {
			t.Errorf("%d bytes wait to be saved, at most %d may", has.Unsaved, most)
		}
		return has.Full
	})
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are parked", func() bool { return scalar[int](b, "SELECT count(*) FROM postrider.parked") == n })
}
