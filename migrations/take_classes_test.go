package migrations

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// retry is for a batch that fails.
func retry(t *testing.T) func(pgx.Tx, []job) {
	return func(tx pgx.Tx, jobs []job) {
		for _, j := range jobs {
			behind(t, tx, `SELECT postrider.retry('w', $1)`, j.ID)
		}
	}
}

// keyOf returns a key of a shard.
func keyOf(shard, shards int) string {
	key := "k"
	for shardOf(key, shards) != shard {
		key += "k"
	}
	return key
}

// putAs enqueues a message of a priority.
func (s *shop) putAs(priority int, key string) int64 {
	s.t.Helper()
	return one[int64](s.t, s.app, `SELECT postrider.enqueue('a.x', '1', nullif($1, ''), priority => $2)`, key, priority)
}

// backlog enqueues many of a priority, some of which a worker has taken.
func (s *shop) backlog(n, priority int) {
	s.t.Helper()
	exec(s.t, s.app, `INSERT INTO postrider.outbox (topic, key, payload, priority) SELECT 'a.x', 'k' || g % 100, '1', $2 FROM generate_series(1, $1::int) g`, n, priority)
	s.batch(5, nil)
}

// What is urgent passes a backlog, in each of its shards, and the backlog goes on after it.
func TestUrgentPassesABacklogInSQL(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 3}`)
	exec(t, s.app, `INSERT INTO postrider.outbox (topic, key, payload, priority) SELECT 'a.x', 'k' || g % 100, '1', 3 FROM generate_series(1, 20000) g`)
	first := s.putAs(1, "k1")
	s.wants("the urgent one, of a backlog that nobody has looked at", s.batch(10, nil), job{first, "k1", 1})
	s.batch(5, nil)
	for _, key := range []string{"k1", "k2", "k3", "k4", "k5", ""} {
		want := s.putAs(1, key)
		s.wants("the urgent one", s.batch(10, nil), job{want, key, 1})
	}
	third, second := s.putAs(3, "k1"), s.putAs(2, "k1")
	s.wants("the more urgent one", s.batch(10, nil), job{second, "k1", 1})
	if rest := drainShards(t, s.worker, "w"); len(rest) != 20000-5+1 {
		t.Errorf("%d were left, and %d among them was to be", len(rest), third)
	}
	s.statuses(map[int64]string{third: "delivered"})
}

// Each priority has its own order in a key, its own retries and dead letters.
func TestPrioritiesHaveTheirOwnOrder(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 1, "backoff_initial": "1h", "on_dead": "hold"}`)
	for priority := range 4 { // each has something to look at, of another key
		id := s.putAs(priority+1, "other")
		s.wants("another key", s.batch(1, retry(t)), job{id, "other", 1})
	}
	one3, two3, one1, two1 := s.putAs(3, "k"), s.putAs(3, "k"), s.putAs(1, "k"), s.putAs(1, "k")
	s.wants("the urgent ones in their order", s.batch(1, nil), job{one1, "k", 1})
	s.wants("the urgent ones in their order", s.batch(5, nil), job{two1, "k", 1})
	s.wants("what fails", s.batch(1, retry(t)), job{one3, "k", 1})
	s.wants("nothing passes it", s.batch(5, nil))
	urgent := s.putAs(1, "k")
	s.wants("but what is urgent", s.batch(5, nil), job{urgent, "k", 1})
	s.due(one3)
	s.wants("its retry, and what is behind it", s.batch(5, nil), job{one3, "k", 2}, job{two3, "k", 1})
	dead := s.putAs(2, "k")
	s.batch(1, func(tx pgx.Tx, jobs []job) { behind(t, tx, `SELECT postrider.kill('w', $1)`, jobs[0].ID) })
	held, urgent, low := s.putAs(2, "k"), s.putAs(1, "k"), s.putAs(4, "k")
	s.wants("a dead letter holds its priority alone", s.batch(5, nil), job{urgent, "k", 1})
	s.wants("a dead letter holds its priority alone", s.batch(5, nil), job{low, "k", 1})
	s.wants("a dead letter holds its priority alone", s.batch(5, nil))
	s.statuses(map[int64]string{dead: "dead", held: "held"})
	exec(t, s.app, `SELECT postrider.discard('w', ARRAY[$1::bigint])`, dead)
	s.wants("what it has held", s.batch(5, nil), job{held, "k", 1})
}

// Of a key at most one message is out, whatever their priorities; other keys' go on.
func TestOneOfAKeyAcrossPriorities(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 1}`)
	low := s.putAs(4, "k")
	tx := begin(t, s.worker)
	s.wants("the first", takeJobs(t, tx, "w", 1), job{low, "k", 1})
	urgent := s.putAs(1, "k")
	other := s.db.Conn(t)
	s.wants("while another of its key is out", takeJobs(t, other, "w", 1))
	s.wants("for the same worker", takeJobs(t, tx, "w", 1), job{urgent, "k", 1})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wants("given back", s.batch(1, nil), job{urgent, "k", 2})
	s.wants("given back", s.batch(1, nil), job{low, "k", 2})
}

// A busy shard hides nothing that is new for others of its class, however far on that is.
func TestUrgentBehindABusyShard(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 2}`)
	mine, others := keyOf(1, 2), keyOf(2, 2)
	first := s.putAs(1, mine)
	tx := begin(t, s.worker)
	s.wants("out", takeJobs(t, tx, "w", 1), job{first, mine, 1})
	s.putAs(1, mine)
	exec(t, s.app, `INSERT INTO postrider.outbox (topic, key, payload, priority) SELECT 'a.x', $1, '1', 3 FROM generate_series(1, 3000)`, others)
	urgent := s.putAs(1, others)
	s.wants("urgent", takeJobs(t, s.db.Conn(t), "w", 1), job{urgent, others, 1})
	commit(t, tx)
}

// One that was not served for a minute has one turn.
func TestPrioritiesInSQLDoNotStarve(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 2}`)
	s.backlog(100, 1)
	low, lower := s.putAs(3, ""), s.putAs(4, "")
	exec(t, s.app, `UPDATE postrider.shard_positions SET saved_at = saved_at - interval '59 seconds'`)
	for _, j := range s.batch(1, nil) {
		if j.ID == low || j.ID == lower {
			t.Error("a minute has not passed")
		}
	}
	exec(t, s.app, `UPDATE postrider.shard_positions SET saved_at = saved_at - interval '2 seconds' WHERE shard > 2`)
	s.wants("the first that waits", s.batch(1, nil), job{low, "", 1})
	s.wants("the second", s.batch(1, nil), job{lower, "", 1})
	for _, j := range s.batch(10, nil) {
		if j.Key == "" {
			t.Errorf("message %d is not urgent", j.ID)
		}
	}
}

// Priorities may come later: what was done stays done, what was parked stays parked, and they do not go again.
func TestPrioritiesComeLater(t *testing.T) {
	s := newShop(t, `{"shards": 2, "backoff_initial": "1h"}`)
	s.backlog(3000, 4) // 5 are taken, and a pass is under way
	taken := s.batch(1, retry(t))
	urgent := s.putAs(1, taken[0].Key)
	exec(t, s.app, `SELECT postrider.subscribe('w', '{a.>}', 'sql:', '{"shards": 2, "backoff_initial": "1h", "priorities": true}')`)
	s.wants("the urgent one", s.batch(10, nil), job{urgent, taken[0].Key, 1})
	refused(t, s.app, `22023 priorities false: "w" has them, and one whose sink is sql: keeps them`, `SELECT postrider.subscribe('w', '{a.>}', 'sql:', '{"shards": 2}')`)
	refused(t, s.app, `22023 shards 4: "w" has 2 shards`, `SELECT postrider.subscribe('w', '{a.>}', 'sql:', '{"priorities": true}')`)
	seen := map[int64]bool{}
	all := drainShards(t, s.worker, "w")
	s.due(taken[0].ID)
	all = append(all, drainShards(t, s.worker, "w")...)
	for _, j := range all {
		if seen[j.ID] {
			t.Errorf("message %d came twice", j.ID)
		}
		seen[j.ID] = true
	}
	if len(all) != 3000-5 || !seen[taken[0].ID] {
		t.Errorf("%d were left, want %d", len(all), 3000-5)
	}
}

// Priorities cost polls nothing that others' messages make longer: each class has a floor.
func TestFloorsOfClasses(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 2}`)
	const unseen = `SELECT count(*) FROM postrider.shard_bases() b, postrider.outbox o WHERE NOT pg_visible_in_snapshot(o.xid, b::pg_snapshot)`
	s.backlog(500, 3)
	drainShards(t, s.worker, "w")
	s.wants("nothing is left", s.batch(10, nil))
	if n := one[int](t, s.app, unseen); n != 0 {
		t.Errorf("%d of them are to be looked at again", n)
	}
	exec(t, s.app, `SELECT postrider.enqueue('b.other', '1') FROM generate_series(1, 1200)`)
	exec(t, s.app, `UPDATE postrider.shard_positions SET saved_at = saved_at - interval '1 hour'`)
	if n := one[int](t, s.app, `SELECT postrider.raise_floors()`); n != 1 {
		t.Errorf("a relay raises %d floors", n)
	}
	if n := one[int](t, s.app, unseen); n != 0 {
		t.Errorf("%d are to be looked at after a relay did so", n)
	}
	for class := range 4 {
		want := s.putAs(class+1, fmt.Sprint("k", class))
		s.wants("after that", s.batch(10, nil), job{want, fmt.Sprint("k", class), 1})
	}
	if n := one[int](t, s.app, `SELECT lag_messages FROM postrider.subscription_status`); n != 0 {
		t.Errorf("status counts %d messages, all are settled", n)
	}
	exec(t, s.app, `UPDATE postrider.shard_positions SET saved_at = saved_at - interval '1 hour'`)
	if n := one[int](t, s.app, `SELECT postrider.raise_floors()`); n != 1 {
		t.Error("a relay does not see that all of them are settled, each in its class")
	}
	if n := one[int](t, s.app, unseen); n != 0 {
		t.Errorf("%d are to be looked at though all are settled", n)
	}
}

// Whatever is done to messages by their ids finds them in the shard of their class.
func TestCommandsFindPriorities(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 2, "backoff_initial": "1h"}`)
	m := []int64{s.putAs(1, "a"), s.putAs(2, "a"), s.putAs(3, "b"), s.putAs(4, "")}
	for i, id := range m[1:] {
		if got := one[string](t, s.app, `SELECT answer FROM postrider.cancel($1, 'w')`, id); got != "cancelled" {
			t.Errorf("%d: %s", i, got)
		}
	}
	s.wants("what is not cancelled", s.batch(10, nil), job{m[0], "a", 1})
	s.wants("what is cancelled", s.batch(10, nil))
	s.statuses(map[int64]string{m[0]: "delivered", m[1]: "cancelled", m[2]: "cancelled", m[3]: "cancelled"})
	exec(t, s.app, `SELECT postrider.replay('w', 'earliest')`)
	wantIDs(t, "again", drainShards(t, s.worker, "w"), m[0])
	settled := s.putAs(4, "d")
	s.wants("settled before the operation", s.batch(1, nil), job{settled, "d", 1})
	many := []int64{s.putAs(1, "c"), s.putAs(3, "c"), s.putAs(4, "d")}
	operation := startOperation(t, s.app, `'cancel', 'w', everything => true`)
	if n := one[int](t, s.app, `SELECT messages FROM postrider.preview_operation('cancel', 'w', everything => true)`); n != 3 {
		t.Errorf("the preview says %d messages, three are not settled", n)
	}
	workOff(t, s.app, 10)
	ends(t, s.app, operation, "done 3")
	s.wants("what was cancelled by an operation", s.batch(10, nil))
	s.statuses(map[int64]string{many[0]: "cancelled", many[1]: "cancelled", many[2]: "cancelled"})
	for _, key := range []string{"u", "v"} {
		const unique = `SELECT concat(id, ' ', duplicate) FROM postrider.enqueue_unique('a.x', '1', $1, 'pending:w', key => $1, priority => 4)`
		first := one[string](t, s.app, unique, key)
		if again := one[string](t, s.app, unique, key); again != strings.Replace(first, " f", " t", 1) {
			t.Errorf("a duplicate of what is pending: %s, want that it is one of %s", again, first)
		}
		tx := begin(t, s.worker)
		if jobs := takeJobs(t, tx, "w", 1); len(jobs) != 1 || first != fmt.Sprint(jobs[0].ID, " f") {
			t.Errorf("taken %v, want %s", jobs, first)
		}
		second := one[string](t, s.app, unique, key) // the first is out, and may have read what was before
		commit(t, tx)
		if jobs := drainShards(t, s.worker, "w"); len(jobs) != 1 || second != fmt.Sprint(jobs[0].ID, " f") {
			t.Errorf("after it %v, want %s", jobs, second)
		}
	}
}

// A copy in another cluster has each class where it was.
func TestRebaseWithPriorities(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 2}`)
	done := []int64{s.putAs(1, "a"), s.putAs(4, "b")}
	wantIDs(t, "before", drainShards(t, s.worker, "w"), done...)
	s.backlog(20, 3)
	const floors = `SELECT count(*) FROM postrider.shard_positions WHERE shard < 1`
	if n := one[int](t, s.app, floors); n != 4 {
		t.Errorf("there are %d floors, want one for each class", n)
	}
	left := one[[]int64](t, s.app, `SELECT array_agg(id) FROM postrider.deliveries WHERE status = 'pending'`)
	to := pgtest.Empty(t)
	copyInto(t, s.db, to)
	there := to.Conn(t)
	exec(t, there, `UPDATE postrider.source SET system_identifier = 1`)
	exec(t, there, `SELECT postrider.rebase()`)
	if n := one[int](t, there, floors); n != 0 {
		t.Errorf("%d floors speak of the other cluster's transactions", n)
	}
	wantIDs(t, "there", drainShards(t, there, "w"), left...)
	urgent := put(t, there, "a")
	wantIDs(t, "new ones", drainShards(t, there, "w"), urgent)
}

// What may wait beside the log is bounded for all priorities together.
func TestPrioritiesShareTheirBound(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 1, "max_scheduled": 2}`)
	for priority := range 4 {
		exec(t, s.app, `SELECT postrider.enqueue('a.x', '1', deliver_at => now() + interval '1 hour', priority => $1) FROM generate_series(1, 2)`, priority+1)
	}
	s.wants("what is for later", s.batch(10, nil))
	if n := parked(t, s.app, "w", "scheduled"); n != 3 { // one more than the share of a shard, which is rounded up
		t.Errorf("%d messages wait beside the log, want 3", n)
	}
}

// Who cancels a message waits for the worker that has one of its key's shard, whatever their priorities.
func TestCancelWaitsForWorkersOfAllPriorities(t *testing.T) {
	s := newShop(t, `{"priorities": true, "shards": 1}`)
	low := s.putAs(4, "k")
	tx := begin(t, s.worker)
	s.wants("out", takeJobs(t, tx, "w", 1), job{low, "k", 1})
	result := goExec(t, s.app, fmt.Sprintf(`SELECT postrider.cancel(%d, 'w')`, low))
	waitUntilBlocked(t, s.db.Conn(t), s.app, result)
	commit(t, tx)
	if err := <-result; err != nil {
		t.Error(err)
	}
	s.statuses(map[int64]string{low: "delivered"})
}
