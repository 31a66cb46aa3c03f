package migrations

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// shop is one subscription with one shard, of which a worker takes.
type shop struct {
	t      *testing.T
	db     *pgtest.DB
	app    *pgx.Conn
	worker *pgx.Conn
}

func newShop(t *testing.T, settings string) *shop {
	db := pgtest.New(t)
	s := &shop{t: t, db: db, app: db.Conn(t), worker: db.Conn(t)}
	work(t, s.app, "w", settings)
	return s
}

// put enqueues a message of each key.
func (s *shop) put(keys ...string) (list []int64) {
	for _, key := range keys {
		list = append(list, put(s.t, s.app, key))
	}
	return list
}

// batch takes what there is, lets do decide about it in the same transaction, and commits.
func (s *shop) batch(most int, do func(tx pgx.Tx, jobs []job)) []job {
	s.t.Helper()
	tx := begin(s.t, s.worker)
	jobs := takeJobs(s.t, tx, "w", most)
	if do != nil {
		do(tx, jobs)
	}
	commit(s.t, tx)
	return jobs
}

func (s *shop) wants(what string, jobs []job, want ...job) {
	s.t.Helper()
	if !slices.Equal(jobs, want) && len(jobs)+len(want) > 0 {
		s.t.Errorf("%s: %v, want %v", what, jobs, want)
	}
}

// statuses compares what the view says.
func (s *shop) statuses(want map[int64]string) {
	s.t.Helper()
	for id, status := range statuses(s.t, s.app, "w") {
		if want[id] != "" && want[id] != status {
			s.t.Errorf("message %d is %s, want %s", id, status, want[id])
		}
	}
}

// due lets the time pass that a parked message waits.
func (s *shop) due(ids ...int64) {
	exec(s.t, s.app, `UPDATE postrider.parked SET due = now() - interval '1 s' WHERE id = ANY ($1) AND due > now()`, ids)
}

func behind(t *testing.T, tx pgx.Tx, sql string, args ...any) []int64 {
	t.Helper()
	return one[[]int64](t, tx, sql, args...)
}

// A message that fails holds its key, and nothing else; its attempts come to an end.
func TestRetryHoldsItsKey(t *testing.T) {
	s := newShop(t, `{"shards": 1, "max_attempts": 3, "backoff_initial": "1h"}`)
	m := s.put("a", "b", "a", "b", "a")
	s.wants("the batch", s.batch(10, func(tx pgx.Tx, _ []job) {
		if got := behind(t, tx, `SELECT postrider.retry('w', $1, E'no \x07luck')`, m[0]); !slices.Equal(got, []int64{m[2], m[4]}) {
			t.Errorf("behind the first message: %v", got)
		}
		if got := behind(t, tx, `SELECT postrider.retry('w', $1)`, m[2]); len(got) != 0 {
			t.Errorf("a message that waits holds %v", got)
		}
	}), job{m[0], "a", 1}, job{m[1], "b", 1}, job{m[2], "a", 1}, job{m[3], "b", 1}, job{m[4], "a", 1})
	m = append(m, s.put("a", "b")...)
	s.wants("what goes on", s.batch(10, nil), job{m[6], "b", 1})
	s.statuses(map[int64]string{m[0]: "retrying", m[1]: "delivered", m[2]: "held", m[3]: "delivered", m[4]: "held", m[5]: "held", m[6]: "delivered"})
	type waiting struct {
		Attempts int
		Reason   string
		Wait     float64
	}
	rows, err := s.app.Query(t.Context(), `SELECT attempts, reason, extract(epoch FROM due - now())::float8 FROM postrider.deliveries WHERE id = $1`, m[0])
	if err != nil {
		t.Fatal(err)
	}
	is, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[waiting])
	if err != nil || is.Attempts != 1 || is.Reason != "no  luck" || is.Wait < 2870 || is.Wait > 4330 {
		t.Errorf("the retry is %+v, %v", is, err)
	}
	s.due(m[0])
	s.wants("the retry with what is behind it", s.batch(2, func(tx pgx.Tx, _ []job) {
		if got := behind(t, tx, `SELECT postrider.retry('w', $1, after => '0')`, m[0]); !slices.Equal(got, []int64{m[2]}) {
			t.Errorf("behind the retry: %v", got)
		}
	}), job{m[0], "a", 2}, job{m[2], "a", 1})
	s.wants("the last attempt", s.batch(2, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.retry('w', $1, 'for good')`, m[0]) }),
		job{m[0], "a", 3}, job{m[2], "a", 1})
	s.wants("the rest", s.batch(10, nil), job{m[4], "a", 1}, job{m[5], "a", 1})
	s.statuses(map[int64]string{m[0]: "dead", m[2]: "delivered", m[4]: "delivered", m[5]: "delivered"})
	if n := one[int](t, s.app, `SELECT postrider.redrive('w')`); n != 1 {
		t.Errorf("%d messages redriven", n)
	}
	s.wants("the redriven one", s.batch(10, nil), job{m[0], "a", 1})
}

func TestBackoff(t *testing.T) {
	for settings, want := range map[string][]float64{
		`{"backoff_initial": "10s", "backoff_max": "1m"}`: {10, 20, 40, 60, 60},
		`{"backoff_schedule": ["1s", "5m", "2h"]}`:        {1, 300, 7200, 7200},
		`{}`: {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600},
		`{"backoff_initial": "0s", "max_attempts": 100000}`: {0, 0, 0},
	} {
		s := newShop(t, settings)
		for i, wait := range want {
			got := one[float64](t, s.app, `SELECT extract(epoch FROM postrider.next_wait(t, $1))::float8 FROM postrider.shard_settings t`, i+1)
			if got < wait*0.799 || got > wait*1.201 {
				t.Errorf("%s: after attempt %d %v s, want about %v", settings, i+1, got, wait)
			}
		}
	}
}

// What is late has a smaller id and comes after the retry: what is behind a message is so by its place in the batch.
func TestRestOfAKeyIsByPlace(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	slow := begin(t, s.app)
	late := put(t, slow, "k")
	other := s.db.Conn(t)
	first := put(t, other, "k")
	s.batch(10, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.retry('w', $1)`, first) })
	commit(t, slow)
	s.due(first)
	var took []job
	s.batch(10, func(tx pgx.Tx, jobs []job) {
		took = jobs
		got := behind(t, tx, `SELECT postrider.retry('w', $1)`, jobs[0].ID)
		if len(jobs) != 2 || !slices.Equal(got, []int64{jobs[1].ID}) {
			t.Errorf("of %v, behind the first: %v", jobs, got)
		}
	})
	wantIDs(t, "both", took, late, first)
	s.wants("what was late need not wait for what it was before", s.batch(10, nil), job{late, "k", 1})
	s.due(first)
	s.wants("the other", s.batch(10, nil), job{first, "k", 3})
}

// A key that waits does not make every poll write.
func TestHeldKeysAreQuiet(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	m := s.put("k", "k", "k")
	s.batch(1, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.retry('w', $1)`, m[0]) })
	s.wants("those behind", s.batch(10, nil))
	quiet := func() {
		t.Helper()
		for range 10 {
			tx := begin(t, s.worker)
			s.wants("a poll", takeJobs(t, tx, "w", 10))
			if xid := one[*string](t, tx, `SELECT pg_current_xact_id_if_assigned()::text`); xid != nil {
				t.Fatal("a poll has written, for a key that waits")
			}
			commit(t, tx)
		}
	}
	quiet()
	// What comes forward and still waits goes back, once.
	exec(t, s.app, `UPDATE postrider.parked SET due = '-infinity' WHERE state = 'held'`)
	s.wants("one that looks again", s.batch(10, nil))
	quiet()
	s.due(m[0])
	s.wants("the whole key", s.batch(10, nil), job{m[0], "k", 2}, job{m[1], "k", 1}, job{m[2], "k", 1})
}

func TestScheduledJobs(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	later := one[int64](t, s.app, `SELECT postrider.enqueue('a.x', '1', 'k', deliver_at => now() + interval '1 hour')`)
	soon := s.put("k", "")
	s.wants("what is due", s.batch(10, nil), job{soon[0], "k", 1}, job{soon[1], "", 1})
	s.statuses(map[int64]string{later: "scheduled"})
	s.wants("nothing", s.batch(10, nil))
	s.due(later)
	s.wants("its time has come", s.batch(10, nil), job{later, "k", 1})
	s.statuses(map[int64]string{later: "delivered"})
}

func TestSnoozeAndGiveBackCountNoAttempt(t *testing.T) {
	s := newShop(t, `{"shards": 1, "max_attempts": 2}`)
	m := s.put("k", "k")
	s.wants("first", s.batch(1, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.snooze('w', $1, '1 hour')`, m[0]) }), job{m[0], "k", 1})
	s.wants("its key waits", s.batch(10, nil))
	s.statuses(map[int64]string{m[0]: "retrying", m[1]: "held"})
	s.due(m[0])
	for range 3 {
		s.wants("again", s.batch(1, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.give_back('w', $1)`, m[0]) }), job{m[0], "k", 1})
	}
	s.wants("at last", s.batch(10, nil), job{m[0], "k", 1}, job{m[1], "k", 1})
}

func TestKillAndOnDead(t *testing.T) {
	s := newShop(t, `{"shards": 1, "on_dead": "hold"}`)
	m := s.put("k", "k", "x")
	s.batch(10, func(tx pgx.Tx, _ []job) {
		if got := behind(t, tx, `SELECT postrider.kill('w', $1, 'no such shop')`, m[0]); !slices.Equal(got, []int64{m[1]}) {
			t.Errorf("behind a dead letter: %v", got)
		}
	})
	m = append(m, s.put("k")...)
	s.wants("while it holds", s.batch(10, nil))
	s.statuses(map[int64]string{m[0]: "dead", m[1]: "held", m[2]: "delivered", m[3]: "held"})
	exec(t, s.app, `SELECT postrider.discard('w', $1)`, []int64{m[0]})
	s.wants("after discarding it", s.batch(10, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.kill('w', $1)`, m[1]) }), job{m[1], "k", 1}, job{m[3], "k", 1})
	s.statuses(map[int64]string{m[0]: "discarded", m[1]: "dead", m[3]: "held"})
	exec(t, s.app, `SELECT postrider.redrive('w', $1)`, []int64{m[1]})
	s.wants("after redriving it", s.batch(10, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.kill('w', $1)`, m[1]) }), job{m[1], "k", 1}, job{m[3], "k", 1})
	exec(t, s.app, `SELECT postrider.subscribe('w', '{a.>}', 'sql:', '{"shards": 1}')`) // dead letters hold nothing any more
	s.wants("without holding", s.batch(10, func(tx pgx.Tx, jobs []job) {
		if got := behind(t, tx, `SELECT postrider.kill('w', $1)`, m[3]); len(got) != 0 {
			t.Errorf("a dead letter holds %v", got)
		}
	}), job{m[3], "k", 1})
}

func TestOutcomesAreOfOnesOwn(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("", "")
	for _, call := range []string{`retry('w', $1)`, `kill('w', $1)`, `snooze('w', $1, '1 s')`, `give_back('w', $1)`} {
		s.batch(1, nil)
		refused(t, s.worker, "22023 message ", `SELECT postrider.`+call, m[0])
	}
	refused(t, s.worker, "22023 after -00:00:01: must be an interval from 0 to 1 year", `SELECT postrider.retry('w', 1, 'x', '-1 s')`)
	refused(t, s.worker, "22023 after null", `SELECT postrider.snooze('w', 1, NULL)`)
	refused(t, s.worker, `22023 subscription "v": there is none of this name`, `SELECT postrider.retry('v', 1)`)
}

// dies lets a worker take a batch and be ended with it.
func (s *shop) dies(most int) []job {
	s.t.Helper()
	conn := s.db.Conn(s.t)
	tx := begin(s.t, conn)
	jobs := takeJobs(s.t, tx, "w", most)
	exec(s.t, s.app, `SELECT pg_terminate_backend($1, 10000)`, int32(conn.PgConn().PID()))
	return jobs
}

// What kills each worker that takes it ends as a dead letter, and its neighbours lose nothing.
func TestKillersAreFound(t *testing.T) {
	s := newShop(t, `{"shards": 1, "max_attempts": 3}`)
	m := s.put("", "", "", "", "")
	killer := m[2]
	s.wants("the batch that dies", s.dies(10), job{m[0], "", 1}, job{m[1], "", 1}, job{m[2], "", 1}, job{m[3], "", 1}, job{m[4], "", 1})
	s.wants("alone", s.batch(10, nil), job{m[0], "", 1})
	s.wants("alone", s.batch(10, nil), job{m[1], "", 1})
	for n := 1; n <= 3; n++ {
		s.wants("the killer alone", s.dies(10), job{killer, "", n})
	}
	s.wants("past the killer", s.batch(10, nil), job{m[3], "", 1})
	s.statuses(map[int64]string{killer: "dead"})
	if got := one[string](t, s.app, `SELECT attempts || ' ' || reason FROM postrider.deliveries WHERE id = $1`, killer); got != "3 no worker has come to COMMIT with it" {
		t.Errorf("the dead letter says %q", got)
	}
	s.wants("the last one of the batch", s.batch(10, nil), job{m[4], "", 1})
	m = s.put("", "", "")
	s.wants("whole batches again", s.batch(10, nil), job{m[0], "", 1}, job{m[1], "", 1}, job{m[2], "", 1})

	exec(t, s.app, `SELECT postrider.redrive('w')`)
	for n := 1; n <= 3; n++ {
		s.wants("the killer, redriven", s.dies(10), job{killer, "", n})
	}
	s.wants("nothing else", s.batch(10, nil))
	s.statuses(map[int64]string{killer: "dead"})
}

// A count is of one message: with another one first it begins anew. A rollback that is meant counts for nothing.
func TestDeathsAreCountedByMessage(t *testing.T) {
	s := newShop(t, `{"shards": 1, "max_attempts": 3}`)
	m := s.put("", "")
	s.wants("it dies", s.dies(1), job{m[0], "", 1})
	s.wants("it dies", s.dies(1), job{m[0], "", 2})
	later := one[int64](t, s.app, `SELECT postrider.enqueue('a.x', '1', deliver_at => now() + interval '1 hour')`)
	s.wants("it is done", s.batch(1, nil), job{m[0], "", 3})
	s.wants("the next one", s.dies(1), job{m[1], "", 1})
	s.wants("the next one", s.batch(2, nil), job{m[1], "", 2})
	s.batch(5, nil)
	s.due(later)
	s.wants("another comes first", s.dies(1), job{later, "", 1})
	for range 5 {
		tx := begin(t, s.worker)
		s.wants("rolled back on purpose", takeJobs(t, tx, "w", 1), job{later, "", 2})
		if !one[bool](t, tx, `SELECT postrider.uncount('w')`) {
			t.Error("nothing to uncount")
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.wants("after all", s.batch(1, func(tx pgx.Tx, _ []job) { behind(t, tx, `SELECT postrider.retry('w', $1, after => '0')`, later) }), job{later, "", 2})
	s.wants("a death that was followed by an end is none", s.batch(1, nil), job{later, "", 3})
}

// A worker that hangs loses its session at its limit, and its shard is free.
func TestTimeLimit(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("")
	tx := begin(t, s.worker)
	if n := one[int](t, tx, `SELECT count(*) FROM postrider.take('w', 1, '300 ms')`); n != 1 {
		t.Fatalf("%d messages", n)
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(takeJobs(t, s.app, "w", 1)) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("a worker that is idle in its transaction keeps its shard")
		}
	}
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("a worker whose time was over has committed")
	}
	s.statuses(map[int64]string{m[0]: "delivered"})

	busy := begin(t, s.db.Conn(t))
	s.put("")
	exec(t, busy, `SELECT postrider.take('w', 1, '200 ms')`)
	if _, err := busy.Exec(t.Context(), `SELECT pg_sleep(60)`); err == nil || !strings.Contains(err.Error(), "57014") && !strings.Contains(err.Error(), "57P05") && !strings.Contains(err.Error(), "25P04") {
		t.Errorf("a statement that takes too long: %v", err)
	}
	after := begin(t, s.db.Conn(t))
	exec(t, after, `SET LOCAL statement_timeout = '59s'`)
	exec(t, after, `SELECT postrider.take('w')`)
	if got := one[string](t, after, `SHOW statement_timeout`); got != "59s" {
		t.Errorf("a shorter limit has become %s", got)
	}
	if err := after.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, s.app, `SHOW statement_timeout`); got != "0" {
		t.Errorf("a limit outlives its transaction: %s", got)
	}
}

// Shards that are full of work do not keep one waiting that has just got some.
func TestNoShardStarves(t *testing.T) {
	s := newShop(t, `{"shards": 2}`)
	busy, other := "", ""
	for i := 0; busy == "" || other == ""; i++ {
		if key := strings.Repeat("k", i+1); shardOf(key, 2) == 1 {
			busy = key
		} else {
			other = key
		}
	}
	exec(t, s.app, `SELECT postrider.enqueue('a.x', '1', $1) FROM generate_series(1, 1500)`, busy)
	s.batch(1, nil)
	waits := put(t, s.app, other)
	for n := range 1000 { // by chance one call in fifty looks there first
		if jobs := s.batch(1, nil); len(jobs) == 1 && jobs[0].ID == waits {
			t.Logf("taken after %d others", n)
			return
		}
	}
	t.Error("a message waits behind another shard's for ever")
}
