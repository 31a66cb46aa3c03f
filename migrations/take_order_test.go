package migrations

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// old is a segment that is neither filled now nor will be next.
const old = `((postrider.current_segment() + 8) & 15)::smallint`

func (s *shop) putOld(q querier, key string) int64 {
	s.t.Helper()
	return one[int64](s.t, q, `INSERT INTO postrider.outbox (topic, key, payload, segment) VALUES ('a.x', $1, '1', `+old+`) RETURNING id`, key)
}

func (s *shop) locksOld(q querier) bool {
	s.t.Helper()
	return one[bool](s.t, q, `SELECT EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.relation = ('postrider.outbox_' || `+old+`)::regclass)`)
}

// What is in a segment that was closed comes in its order all the same: its transaction may have ended late, and the segment may have been
// closed by a relay that is gone and filled anew.
func TestClosedSegmentsKeepTheOrder(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	slow := begin(t, s.app)
	first := s.putOld(slow, "k")
	settled := one[int64](t, s.worker, `SELECT postrider.enqueue('a.x', '1', 'other')`)
	s.wants("while its transaction runs", s.batch(10, nil), job{settled, "other", 1})
	exec(t, s.worker, `SELECT postrider.close_segment(`+old+`, true)`)
	commit(t, slow)
	second := s.put("k")[0]
	tx := begin(t, s.worker)
	s.wants("the late one first", takeJobs(t, tx, "w", 1), job{first, "k", 1})
	s.wants("then what follows it", takeJobs(t, tx, "w", 10), job{second, "k", 1})
	if behind := behind(t, tx, `SELECT postrider.retry('w', $1)`, first); len(behind) != 1 || behind[0] != second {
		t.Errorf("behind the late one: %v, want %d", behind, second)
	}
	commit(t, tx)
	s.statuses(map[int64]string{first: "retrying", second: "held"})
	third := s.put("other")
	tx = begin(t, s.worker)
	s.wants("another key", takeJobs(t, tx, "w", 10), job{third[0], "other", 1})
	if s.locksOld(tx) {
		t.Error("a worker keeps a closed segment that has nothing for it")
	}
	behind(t, tx, `SELECT postrider.retry('w', $1)`, third[0])
	if s.locksOld(tx) {
		t.Error("a worker who says what is wrong keeps a closed segment that it has taken nothing from")
	}
	commit(t, tx)
}

// The segments that hold something are named, each of them, in order, and no others.
func TestFilledSegments(t *testing.T) {
	app := pgtest.New(t).Conn(t)
	filled := func(want ...int32) {
		t.Helper()
		if got := one[[]int32](t, app, `SELECT postrider.filled_segments()`); !slices.Equal(got, want) {
			t.Errorf("filled are %v, want %v", got, want)
		}
	}
	filled()
	for _, segment := range []int{15, 0, 9} {
		exec(t, app, `INSERT INTO postrider.outbox (topic, payload, segment) VALUES ('a.x', '1', $1)`, segment)
	}
	filled(0, 9, 15)
	exec(t, app, `TRUNCATE postrider.outbox_9`)
	filled(0, 15)
}

// What is in a closed segment alone is found, and keeps no look at the log from being noted as one that found something.
func TestClosedSegmentsAreLookedAt(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.putOld(s.app, "k")
	exec(t, s.app, `SELECT postrider.close_segment(`+old+`, true)`)
	exec(t, s.app, `SELECT postrider.enqueue('b.other', '1') FROM generate_series(1, 1500)`)
	if n := one[int](t, s.app, `SELECT postrider.raise_floors()`); n != 0 {
		t.Errorf("%d floors raised above it", n)
	}
	s.wants("the closed segment's", s.batch(10, nil), job{m, "k", 1})
	exec(t, s.app, `SELECT postrider.enqueue('b.other', '1') FROM generate_series(1, 1500)`)
	for range 3 {
		tx := begin(t, s.worker)
		s.wants("others' messages", takeJobs(t, tx, "w", 10))
		if s.locksOld(tx) {
			t.Error("a poll keeps a closed segment")
		}
		commit(t, tx)
	}
}

// What one shard has yet to see of before a change of topics is judged by the topics of then, however far the others have come.
func TestEarlierTopicsOfShardsThatStayBehind(t *testing.T) {
	s := newShop(t, `{"shards": 2}`)
	keys := map[int]string{}
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		keys[shardOf(key, 2)] = key
	}
	m := s.put(keys[2])
	exec(t, s.app, `UPDATE postrider.subscriptions SET topics = '{b.>}'`)
	tx := begin(t, s.app)
	exec(t, tx, `SELECT FROM postrider.shards WHERE shard = 2 FOR UPDATE`)
	n := one[int64](t, s.worker, `SELECT postrider.enqueue('b.x', '1', $1)`, keys[1])
	s.wants("the shard that is free", s.batch(10, nil), job{n, keys[1], 1})
	s.wants("the shard that is free has no more", drainShards(t, s.worker, "w"))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, s.app, `SELECT postrider.enqueue('c.other', '1') FROM generate_series(1, 300)`)
	wantIDs(t, "the other one", drainShards(t, s.worker, "w"), m...)
}

// A backlog comes in the order of its keys through all segments, whatever lies between, and each message once.
func TestBacklogThroughSegments(t *testing.T) {
	s := newShop(t, `{"shards": 2, "backoff_initial": "1h"}`)
	for _, behind := range []int{4, 3, 3, 2, 3, 1} { // segments overlap
		exec(t, s.app, `INSERT INTO postrider.outbox (topic, key, payload, segment, deliver_at)
			SELECT CASE WHEN i % 7 = 0 THEN 'b.other' ELSE 'a.x' END, 'k' || i % 10, '1', ((postrider.current_segment() - $1) & 15)::smallint,
				CASE WHEN i % 40 = 11 THEN clock_timestamp() - interval '1 s' END
			FROM generate_series(1, 200) i`, behind)
	}
	want := one[[]int64](t, s.app, `SELECT array_agg(id ORDER BY id) FROM postrider.outbox WHERE topic = 'a.x'`)
	var got []job
	last := map[string]int64{}
	for none := 0; none < 3; {
		jobs := s.batch(1+len(got)%13, nil)
		for _, j := range jobs {
			if j.ID < last[j.Key] || j.Attempt != 1 {
				t.Errorf("message %d of key %s came after %d, as attempt %d", j.ID, j.Key, last[j.Key], j.Attempt)
			}
			last[j.Key] = j.ID
		}
		got = append(got, jobs...)
		if none++; len(jobs) > 0 {
			none = 0
		}
	}
	wantIDs(t, "all of them", got, want...)
}

// What is scheduled in the middle of a backlog waits, and what is around it does not.
func TestScheduledInABacklog(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("", "")
	later := one[int64](t, s.app, `SELECT postrider.enqueue('a.x', '1', deliver_at => now() + interval '1 hour')`)
	m = append(m, s.put("", "")...)
	s.wants("before", s.batch(1, nil), job{m[0], "", 1})
	s.wants("around it", s.batch(10, nil), job{m[1], "", 1}, job{m[2], "", 1}, job{m[3], "", 1})
	s.statuses(map[int64]string{later: "scheduled"})
	s.due(later)
	s.wants("when it is due", s.batch(10, nil), job{later, "", 1})
}

// A position whose predecessor is gone, or cannot be removed, is none: somebody else has moved the shard meanwhile.
func TestAShardThatHasMovedIsLeftAlone(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("", "", "")
	s.wants("the first", s.batch(1, nil), job{m[0], "", 1}) // a pass is under way
	exec(t, s.app, `CREATE FUNCTION public.stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER stays BEFORE DELETE ON postrider.shard_positions FOR EACH ROW EXECUTE FUNCTION public.stays()`)
	refused(t, s.worker, `40001 shard 1 of "w" has moved`, `SELECT postrider.take('w')`)
	exec(t, s.app, `DROP TRIGGER stays ON postrider.shard_positions`)
	s.wants("what was refused, once more", s.batch(1, nil), job{m[1], "", 2})
	s.wants("the rest", s.batch(5, nil), job{m[2], "", 1})
}

// Two keys wait at the same time, each for its own.
func TestTwoHeldKeys(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h", "max_attempts": 5}`)
	m := s.put("a", "b", "a", "b", "c")
	s.batch(10, func(tx pgx.Tx, _ []job) {
		for i, waits := range []int64{m[2], m[3]} {
			if got := behind(t, tx, `SELECT postrider.retry('w', $1)`, m[i]); !slices.Equal(got, []int64{waits}) {
				t.Errorf("behind message %d: %v, want %d", m[i], got, waits)
			}
		}
	})
	s.statuses(map[int64]string{m[0]: "retrying", m[1]: "retrying", m[2]: "held", m[3]: "held", m[4]: "delivered"})
	m = append(m, s.put("b", "a")...)
	s.wants("while both wait", s.batch(10, nil))
	s.due(m[1])
	s.wants("the second key", s.batch(10, nil), job{m[1], "b", 2}, job{m[3], "b", 1}, job{m[5], "b", 1})
	s.statuses(map[int64]string{m[0]: "retrying", m[2]: "held", m[6]: "held"})
	s.due(m[0])
	s.wants("one of the first key", s.batch(1, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.retry('w', $1)`, m[0]) }), job{m[0], "a", 2})
	s.wants("the first key waits again", s.batch(10, nil))
	s.due(m[0])
	s.wants("in two batches", append(s.batch(2, nil), s.batch(2, nil)...), job{m[0], "a", 3}, job{m[2], "a", 1}, job{m[6], "a", 1})
}

// What waited behind a message that killed its workers goes on, whatever other keys wait for.
func TestAKillersKeyGoesOn(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h", "max_attempts": 3}`)
	m := s.put("a", "b", "b")
	s.batch(10, func(tx pgx.Tx, _ []job) {
		behind(t, tx, `SELECT postrider.retry('w', $1)`, m[0])
		behind(t, tx, `SELECT postrider.retry('w', $1)`, m[1])
	})
	s.due(m[1])
	s.wants("it kills", s.dies(1), job{m[1], "b", 2})
	s.wants("it kills", s.dies(1), job{m[1], "b", 3})
	s.wants("what is behind it", s.batch(1, nil), job{m[2], "b", 1})
	s.statuses(map[int64]string{m[0]: "retrying", m[1]: "dead", m[2]: "delivered"})
}

// A worker that dies in the middle of a backlog is noticed as well: what it had comes one by one.
func TestADeathInABacklog(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("", "", "", "", "", "")
	s.wants("the backlog begins", s.batch(1, nil), job{m[0], "", 1})
	s.wants("it dies", s.dies(2), job{m[1], "", 1}, job{m[2], "", 1})
	s.wants("alone", s.batch(10, nil), job{m[1], "", 1})
	s.wants("alone", s.batch(10, nil), job{m[2], "", 1})
	s.wants("it dies alone", s.dies(1), job{m[3], "", 1})
	s.wants("a second time", s.batch(1, nil), job{m[3], "", 2})
	s.wants("the rest", s.batch(10, nil), job{m[4], "", 1}, job{m[5], "", 1})
}

// A change of topics in the middle of a backlog is none for what was published before.
func TestTopicsChangeInABacklog(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("", "")
	exec(t, s.app, `SELECT postrider.enqueue('b.x', '1')`)
	m = append(m, s.put("")...)
	s.wants("the backlog begins", s.batch(1, nil), job{m[0], "", 1})
	exec(t, s.app, `UPDATE postrider.subscriptions SET topics = '{b.>}'`)
	s.wants("what was published before", s.batch(1, nil), job{m[1], "", 1})
	s.wants("what was published before", s.batch(1, nil), job{m[2], "", 1})
}

// What is settled beyond a backlog's position is not taken again.
func TestSettledBeyondInABacklog(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("", "", "")
	s.wants("the backlog begins", s.batch(1, nil), job{m[0], "", 1})
	exec(t, s.app, `UPDATE postrider.shard_positions SET done = int8multirange(int8range($1, $1, '[]')), done_before = clock_timestamp() WHERE shard = 1`, m[1])
	s.wants("what is not settled", s.batch(10, nil), job{m[2], "", 1})
}
