package migrations

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// What cannot be read ends as a dead letter that says why, whether a worker was to get it or it was to wait, and its shard goes on.
func TestUnreadableMessagesAreDead(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	const large = `SELECT postrider.enqueue('a.x', (SELECT jsonb_agg(md5(random()::text)) FROM generate_series(1, 400)), $1, deliver_at => now() + $2::interval)`
	first := s.put("k")[0]
	broken := one[int64](t, s.app, large, "k", "0")
	waits := one[int64](t, s.app, large, "other", "1 hour")
	last := s.put("k", "other")
	s.damage(true)
	got := ids(s.works("no valid index found for toast relation"))
	if want := append([]int64{first}, last...); !slices.Equal(got, want) {
		t.Errorf("taken %v, want %v", got, want)
	}
	for _, id := range []int64{broken, waits} {
		if reason := one[string](t, s.app, `SELECT state || ': ' || reason FROM postrider.parked WHERE id = $1`, id); !strings.HasPrefix(reason, "dead: it cannot be read: no valid index") {
			t.Errorf("message %d is %s", id, reason)
		}
	}
}

// damaged has a key that is stored apart from its row, which damage makes unreadable.
const damaged = `SELECT postrider.enqueue('a.x', (SELECT jsonb_agg(md5(random()::text)) FROM generate_series(1, 30)),
	(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60)))`

// damage makes all that is stored apart from the outbox's rows unreadable, or mends it.
func (s *shop) damage(done bool) {
	s.t.Helper()
	exec(s.t, s.app, `UPDATE pg_index SET indisvalid = NOT $1 WHERE indrelid IN (
		SELECT c.reltoastrelid FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = 'postrider.outbox'::regclass)`, done)
}

// works takes messages until it finds nothing often enough, as a worker does that starts anew when something fails: what is wrong is said to be that.
func (s *shop) works(wrong string) (got []job) {
	s.t.Helper()
	for failed, idle := 0, 0; idle < 20; {
		tx := begin(s.t, s.worker)
		rows, err := tx.Query(s.t.Context(), `SELECT id, coalesce(key, ''), attempt, payload FROM postrider.take('w', 10)`)
		if err != nil {
			s.t.Fatal(err)
		}
		var j job
		var jobs []job
		_, err = pgx.ForEachRow(rows, []any{&j.ID, &j.Key, &j.Attempt, nil}, func() error { jobs = append(jobs, j); return nil })
		if err == nil {
			commit(s.t, tx)
			got = append(got, jobs...)
			if idle++; len(jobs) > 0 {
				idle = 0
			}
			continue
		}
		if rollback := tx.Rollback(s.t.Context()); rollback != nil || !strings.Contains(err.Error(), wrong) {
			s.t.Fatal(err, rollback)
		}
		if failed++; failed > 10 {
			s.t.Fatalf("it fails for ever: %v", err)
		}
	}
	return got
}

// A key that is damaged stops nobody, whoever looks at it. It is read again when its message is redriven, and has its place among the others of the key then.
func TestDamagedKeyIsDead(t *testing.T) {
	for _, settings := range []string{`{"shards": 1}`, `{"shards": 8}`, `{"shards": 4, "priorities": true}`, `{"shards": 8, "on_dead": "hold"}`} {
		t.Run(settings, func(t *testing.T) {
			s := newShop(t, settings)
			keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
			want := s.put(keys...)
			broken := one[int64](t, s.app, damaged)
			want = append(want, s.put(keys...)...)
			late := one[int64](t, s.app, damaged)
			backlog := func() int64 {
				return one[int64](t, s.app, `SELECT lag_messages FROM postrider.subscription_status`)
			}
			if n := backlog(); n != int64(len(want))+2 {
				t.Errorf("%d wait, want %d", n, len(want)+2)
			}
			s.damage(true)
			if n := backlog(); n != int64(len(want))+2 {
				t.Errorf("%d wait once keys are damaged, want %d", n, len(want)+2)
			}
			got := ids(s.works("no valid index found for toast relation"))
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("taken %v, want %v", got, want)
			}
			dead := func(id int64, reason string) {
				t.Helper()
				if is := one[string](t, s.app, `SELECT state || ': ' || reason FROM postrider.parked WHERE id = $1`, id); !strings.HasPrefix(is, "dead: "+reason) {
					t.Errorf("message %d is %s", id, is)
				}
			}
			dead(broken, "its key cannot be read: no valid index")
			dead(late, "its key cannot be read: no valid index")
			exec(t, s.app, `SELECT postrider.redrive('w', ARRAY[$1::bigint])`, broken)
			s.wants("still damaged", s.works("nothing"))
			dead(broken, "its key cannot be read: no valid index")
			s.damage(false)
			exec(t, s.app, `SELECT postrider.redrive('w', ARRAY[$1::bigint])`, broken)
			if right := one[bool](t, s.app, `SELECT p.shard = postrider.shard_for(h, p.key, p.id, p.priority) FROM postrider.parked p JOIN postrider.shard_settings h USING (subscription) WHERE p.id = $1`, broken); !right {
				t.Error("it is not in the shard of its key")
			}
			again := s.works("nothing")
			if len(again) != 1 || again[0].ID != broken || len(again[0].Key) != 1920 {
				t.Errorf("redriven %v", ids(again))
			}
			exec(t, s.app, `SELECT postrider.start_operation('redrive', 'w', everything => true)`)
			exec(t, s.app, `SELECT postrider.work_operation()`)
			if again = s.works("nothing"); len(again) != 1 || again[0].ID != late || len(again[0].Key) != 1920 {
				t.Errorf("redriven by an operation %v", ids(again))
			}
		})
	}
}

// A key may be damaged after the shard that its message has by its id then has passed it, and before that of its key comes to it.
func TestDamagedBetweenShards(t *testing.T) {
	s := newShop(t, `{"shards": 8}`)
	var id int64
	var shard int
	for shard = -1; shard < 0; { // of other shards with a key and without
		id = one[int64](t, s.app, damaged)
		shard = one[int](t, s.app, `SELECT CASE WHEN postrider.shard_of(key, id, 8) = postrider.shard_of(NULL, id, 8) THEN -1 ELSE postrider.shard_of(key, id, 8) END
			FROM postrider.outbox WHERE id = $1`, id)
	}
	var others []int64
	for n := range 40 { // something for each shard
		others = append(others, s.put(strconv.Itoa(n))...)
	}
	busy := begin(t, s.app)
	exec(t, busy, `SELECT FROM postrider.shards WHERE shard = $1 FOR UPDATE`, shard)
	taken := ids(s.works("nothing"))
	commit(t, busy)
	if slices.Contains(taken, id) {
		t.Fatalf("%d was taken from a shard that is locked: %v", id, taken)
	}
	s.damage(true)
	taken = append(taken, ids(s.works("nothing"))...)
	for _, other := range others {
		if !slices.Contains(taken, other) {
			t.Errorf("%d was not taken", other)
		}
	}
	if dead := one[int](t, s.app, `SELECT count(*) FROM postrider.parked WHERE id = $1 AND state = 'dead'`, id); dead != 1 {
		t.Error("nobody says that it is damaged")
	}
}

// What the outbox does not have any more cannot be read again: it stays dead, and says why. What is not redriven stays as it was.
func TestDamagedAndGone(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	broken, unwanted := one[int64](t, s.app, damaged), one[int64](t, s.app, damaged)
	s.damage(true)
	s.works("no valid index found for toast relation")
	s.damage(false)
	exec(t, s.app, `SELECT postrider.discard('w', ARRAY[$1::bigint])`, unwanted)
	exec(t, s.app, `DELETE FROM postrider.outbox`)
	if n := one[int](t, s.app, `SELECT postrider.redrive('w')`); n != 1 {
		t.Errorf("%d redriven, want 1", n)
	}
	s.wants("redriven", s.works("nothing"))
	if is := one[string](t, s.app, `SELECT state || ': ' || reason FROM postrider.parked WHERE id = $1`, broken); is != "dead: it cannot be read: the outbox does not have it any more" {
		t.Errorf("it is %s", is)
	}
	s.statuses(map[int64]string{unwanted: "discarded"})
}

// A key that is too long for the index of what is parked is told so at once, and not when a worker fails with its message.
func TestLongKeysAreDead(t *testing.T) {
	s := newShop(t, `{"shards": 4, "max_attempts": 1}`)
	const long = `SELECT postrider.enqueue('a.x', '{}', (SELECT left(string_agg(md5(random()::text), ''), $1) FROM generate_series(1, 1000)))`
	fits := one[int64](t, s.app, long, 2000)
	over := one[int64](t, s.app, long, 2001)
	far := one[int64](t, s.app, long, 30000)
	last := s.put("k")[0]
	got := s.batches(func(tx pgx.Tx, jobs []job) {
		for _, j := range jobs {
			exec(t, tx, `SELECT postrider.retry('w', $1, 'no')`, j.ID)
		}
	})
	if slices.Sort(got); !slices.Equal(got, []int64{fits, last}) {
		t.Errorf("taken %v, want %v", got, []int64{fits, last})
	}
	s.statuses(map[int64]string{fits: "dead", last: "dead", over: "dead", far: "dead"})
	for id, want := range map[int64]string{over: "its key has 2001 bytes: workers in SQL take messages whose key has 2000 at most", far: "its key has 30000 bytes: workers in SQL take messages whose key has 2000 at most"} {
		if is := one[string](t, s.app, `SELECT reason FROM postrider.parked WHERE id = $1`, id); is != want {
			t.Errorf("message %d: %s", id, is)
		}
	}
}

// batches takes until there is nothing, lets do decide about each batch, and returns the ids.
func (s *shop) batches(do func(tx pgx.Tx, jobs []job)) (got []int64) {
	s.t.Helper()
	for {
		jobs := s.batch(10, do)
		if len(jobs) == 0 {
			return got
		}
		got = append(got, ids(jobs)...)
	}
}
