package relay

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/sinks"
)

// Ids that come again, after TRUNCATE … RESTART IDENTITY while the relay is down, are other messages.
func TestIDsThatComeAgainAreOtherMessages(t *testing.T) {
	t.Parallel()
	for _, from := range []Follow{FollowStream, FollowTimer} {
		t.Run(string(from), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			to := b.subscribe("a", "{>}", `{"max_attempts": 1}`, "now")
			to.answer(func(d sinks.Delivery) error { return sinks.Permanent(fmt.Errorf("not %s", d.Payload)) })
			run := b.start(follow(from))
			b.Publish("t", "", "1", "2", "3")
			dead := "SELECT count(*) FROM postrider.parked WHERE state = 'dead'"
			eventually(t, "three are dead", func() bool { return scalar[int](b, dead) == 3 })
			run.stop()
			b.Exec("TRUNCATE postrider.outbox RESTART IDENTITY")
			to.answer(nil)
			if ids := b.Publish("t", "", "11", "12", "13", "14", "15"); ids[0] != 1 {
				t.Fatalf("the ids are %v: they were to come again", ids)
			}
			const list = "SELECT string_agg(id || ' ' || status, ', ' ORDER BY id, status) FROM postrider.deliveries"
			if got, want := scalar[string](b, list), "1 dead, 1 pending, 2 dead, 2 pending, 3 dead, 3 pending, 4 pending, 5 pending"; got != want {
				t.Errorf("before the start deliveries show %s, want %s", got, want)
			}
			if n := scalar[int](b, "SELECT lag_messages FROM postrider.subscription_status"); n != 5 {
				t.Errorf("a lag of %d, want 5", n)
			}
			b.start(follow(from))
			eventually(t, "all five arrive", func() bool { return to.count() == 5 })
			const settled = "1 dead, 1 delivered, 2 dead, 2 delivered, 3 dead, 3 delivered, 4 delivered, 5 delivered"
			eventually(t, "deliveries show it", func() bool { return scalar[string](b, list) == settled })
			b.Exec("SELECT postrider.redrive('a')")
			eventually(t, "the dead ones are delivered, too", func() bool { return to.count() == 8 && scalar[int](b, dead) == 0 })
			counts := make(map[string]int)
			for _, p := range to.payloads() {
				counts[p]++
			}
			for _, p := range []string{"1", "2", "3", "11", "12", "13", "14", "15"} {
				if counts[p] != 1 {
					t.Errorf("message %s arrived %d times", p, counts[p])
				}
			}
		})
	}
}

// resets is a history of a table whose ids come again: messages of two keys, some of which fail, are scheduled or wait for a callback, while
// the sequence is set back, with the rows gone or not, and the relay is killed or stopped and comes back.
type resets struct {
	*bench
	r     *rand.Rand
	to    *actor
	run   *running
	sent  int
	fails map[string]int // attempts that will fail, by payload
}

// TestIDsComeAgainAtRandom: every message arrives that was not truncated before it could, and none is taken for another.
func TestIDsComeAgainAtRandom(t *testing.T) {
	t.Parallel()
	for _, from := range []Follow{FollowStream, FollowTimer} {
		for range 3 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%s/%x", from, seed), func(t *testing.T) {
				t.Parallel()
				h := &resets{bench: newBench(t), r: rand.New(rand.NewPCG(seed, 1)), fails: make(map[string]int)}
				h.to = h.subscribe("a", "{>}", `{"backoff_initial": "10ms", "backoff_max": "50ms", "lanes": 2}`, "now")
				h.to.answer(h.outcome)
				for range 25 {
					h.step(from)
				}
				if h.run == nil {
					h.run = h.start(follow(from))
				}
				h.finish()
			})
		}
	}
}

func (h *resets) outcome(d sinks.Delivery) error {
	text := string(d.Payload)
	if h.fails[text] > 0 {
		h.fails[text]--
		return sinks.Retryable(errors.New("not yet"), 0)
	}
	return nil
}

func (h *resets) step(from Follow) {
	switch h.r.IntN(8) {
	case 0:
		if h.run == nil {
			h.run = h.start(follow(from))
			return
		}
		if h.r.IntN(2) == 0 { // as a kill: nothing more is saved
			h.Exec("DELETE FROM postrider.relays")
		}
		h.run.stop()
		h.run = nil
	case 1: // by a test suite: what has not arrived is gone, which the model leaves out
		if h.run != nil {
			h.settled()
			h.Exec("TRUNCATE postrider.outbox RESTART IDENTITY")
		}
	case 2: // a copy whose sequence is behind: rows are there, their ids come again in another segment
		h.Exec(`SELECT postrider.set_segment_length((ARRAY['1 second', '7 seconds', '1 hour', '3 hours', '1 day'])[$1]::interval)`, 1+h.r.IntN(5))
		h.Exec("SELECT setval('postrider.outbox_id_seq', 1 + $1 % (SELECT last_value FROM postrider.outbox_id_seq))", h.r.Int64N(1000))
	default:
		h.insert()
	}
}

// insert makes messages until their ids are free.
func (h *resets) insert() {
	for range 1 + h.r.IntN(12) {
		payload := fmt.Sprint(h.sent)
		if h.r.IntN(4) == 0 {
			h.to.mu.Lock()
			h.fails[payload] = 1 + h.r.IntN(2)
			h.to.mu.Unlock()
		}
		due := time.Now()
		if h.r.IntN(6) == 0 {
			due = due.Add(time.Duration(h.r.IntN(300)) * time.Millisecond)
		}
		for taken := true; taken; {
			_, err := h.Admin.Exec(h.t.Context(), "SELECT postrider.enqueue('t', $1::text::jsonb, $2, deliver_at => $3)", payload, []string{"", "k", "l"}[h.r.IntN(3)], due)
			taken = err != nil && isUnique(err)
			if err != nil && !taken {
				h.t.Fatal(err)
			}
		}
		h.sent++
	}
}

func (h *resets) settled() {
	eventually(h.t, fmt.Sprintf("all %d messages have arrived", h.sent), func() bool { return len(h.arrived()) == h.sent })
}

func (h *resets) arrived() map[string]int {
	counts := make(map[string]int)
	for _, p := range h.to.payloads() {
		counts[p]++
	}
	return counts
}

func (h *resets) finish() {
	h.settled()
	eventually(h.t, "nothing is parked or pending", func() bool {
		return scalar[int](h.bench, "SELECT lag_messages + (SELECT count(*) FROM postrider.parked) FROM postrider.subscription_status") == 0
	})
	if n := scalar[int](h.bench, "SELECT count(*) FROM postrider.deliveries WHERE status <> 'delivered'"); n != 0 {
		h.t.Errorf("%d deliveries are not shown as delivered", n)
	}
}

func isUnique(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "23505"
}

// Times are PostgreSQL's to the microsecond, also where a time.Time in Unix microseconds is not.
func TestTimesAreExact(t *testing.T) {
	t.Parallel()
	conn := newBench(t).DB.Conn(t)
	var texts []string
	var values []pgtype.Timestamptz
	firstYear, lastYear := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()-snapshot.Epoch, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()-snapshot.Epoch
	borns := []int64{math.MaxInt64, math.MinInt64, 0, -1, 1, firstYear, firstYear - 1, lastYear, -snapshot.Epoch, 9223371331199999999, -211813488000000000}
	for range 100 {
		borns = append(borns, rand.Int64N(9223371331199999999), -rand.Int64N(211813488000000000))
	}
	for _, born := range borns {
		texts, values = append(texts, snapshot.TimeText(born)), append(values, snapshot.Timestamp(born))
	}
	for name, array := range map[string]any{"text": texts, "timestamptz": values} {
		rows, err := conn.Query(t.Context(), "SELECT timestamptz_send(x::timestamptz) FROM unnest($1::"+name+"[]) WITH ORDINALITY u (x, n) ORDER BY n", array)
		mend(t, err)
		sent, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		mend(t, err)
		for i, b := range sent {
			if got, err := message.DecodeInt(b); err != nil || got != borns[i] {
				t.Errorf("%s: %d was read as %d from %q, %v", name, borns[i], got, texts[i], err)
			}
		}
	}
}

// Of two rows, the id tells which came first, unless the sequence was set back; then time and transaction do.
func TestPlacesTellWhatCameFirst(t *testing.T) {
	at := func(id, born int64, xid uint64) snapshot.Place {
		return snapshot.Place{Ident: snapshot.Ident{ID: id, Born: born}, XID: xid}
	}
	for _, c := range []struct {
		what          string
		first, second snapshot.Place
	}{
		{"all agree", at(1, 1, 1), at(2, 2, 2)},
		{"the clock was set back", at(1, 900, 1), at(2, 2, 2)},
		{"the sequence was set back", at(900, 1, 1), at(2, 2, 2)},
		{"an older transaction goes on", at(1, 1, 9), at(2, 2, 2)},
		{"no transaction is known: the id", at(1, 900, 0), at(2, 2, 2)},
		{"the id came again", at(1, 1, 1), at(1, 2, 2)},
		{"one transaction, a clock that steps", at(1, 900, 5), at(2, 2, 5)},
	} {
		if c.first.Compare(c.second) >= 0 || c.second.Compare(c.first) <= 0 {
			t.Errorf("%s: %v and %v are in the wrong order", c.what, c.first, c.second)
		}
	}
}
