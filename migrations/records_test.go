package migrations

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// Results and attempts stay for the retention, whichever segment they are in, and not for much longer.
func TestRecordsAreEmptied(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	// One in each segment, as if it had been written when that was the current one: sixteen hours of two, up to now.
	exec(t, conn, `SELECT postrider.set_segment_length('1 hour')`)
	exec(t, conn, `INSERT INTO postrider.results (subscription, id, created_at, kept_at, segment, result)
		SELECT 's', h, at, at, floor(extract(epoch FROM at) / 3600)::bigint & 15, '{}' FROM generate_series(0, 13) h, LATERAL (SELECT now() - h * interval '1 hour' AS at) a`)
	exec(t, conn, `INSERT INTO postrider.attempts (subscription, id, created_at, attempt, started_at, took, outcome, segment)
		SELECT subscription, id, created_at, 1, kept_at, '1 s', 'failed', segment FROM postrider.results`)
	left := func() string {
		return one[string](t, conn, `SELECT count(*) || ' ' || coalesce(max(id), -1) FROM postrider.results`) + ", " +
			one[string](t, conn, `SELECT count(*) || ' ' || coalesce(max(id), -1) FROM postrider.attempts`)
	}
	for _, c := range []struct {
		retention string
		emptied   int
		want      string
	}{
		{"1 day", 0, "14 13, 14 13"},
		{"10 hours", 2 * 3, "11 10, 11 10"}, // of the one that ended less than ten hours ago nothing goes
		{"10 hours", 0, "11 10, 11 10"},
		{"0", 2 * 10, "1 0, 1 0"}, // the current one stays
	} {
		if n := one[int](t, conn, `SELECT postrider.empty_records($1::interval)`, c.retention); n != c.emptied || left() != c.want {
			t.Errorf("after %s: %d emptied, %s left; want %d, %s", c.retention, n, left(), c.emptied, c.want)
		}
	}
	// What another length of segments, or another clock, has put there is looked at.
	exec(t, conn, `INSERT INTO postrider.results (subscription, id, created_at, segment, result)
		SELECT 's', 99, now(), (postrider.current_segment() + 8) & 15, '{}'`)
	if n := one[int](t, conn, `SELECT postrider.empty_records('2 hours')`); n != 0 {
		t.Errorf("%d segments with something new were emptied", n)
	}
	if _, err := conn.Exec(t.Context(), `SELECT postrider.empty_records('-1 s')`); err == nil || !strings.Contains(err.Error(), "retention -00:00:01: must be") {
		t.Errorf("a negative retention: %v", err)
	}
}

// Nobody is waited for.
func TestRecordsThatAreReadStay(t *testing.T) {
	db := pgtest.New(t)
	conn, reader := db.Conn(t), db.Conn(t)
	exec(t, conn, `INSERT INTO postrider.results (subscription, id, created_at, kept_at, segment, result)
		SELECT 's', 1, now(), now() - interval '1 year', (postrider.current_segment() + 8) & 15, '{}'`)
	exec(t, reader, "BEGIN")
	one[int](t, reader, `SELECT count(*) FROM postrider.results`)
	exec(t, conn, "SET lock_timeout = '10s'")
	if n := one[int](t, conn, `SELECT postrider.empty_records('1 hour')`); n != 0 {
		t.Errorf("%d emptied", n)
	}
	exec(t, reader, "COMMIT")
	if n := one[int](t, conn, `SELECT postrider.empty_records('1 hour')`); n != 1 {
		t.Errorf("%d emptied after that", n)
	}
}

// Only whoever has taken a message says what came of it, and what is too large is refused.
func TestResultsOfWorkersInSQL(t *testing.T) {
	db := pgtest.New(t)
	conn := db.Conn(t)
	exec(t, conn, `SELECT postrider.subscribe('work', '{w.>}', 'sql:', '{}', 'now')`)
	exec(t, conn, `SELECT postrider.subscribe('other', '{w.>}', 'sql:', '{}', 'now')`)
	enqueue(t, conn, "w.a")
	exec(t, conn, "BEGIN")
	exec(t, conn, `CREATE TEMP TABLE job AS SELECT id, created_at FROM postrider.take('work')`)
	for sql, want := range map[string]string{
		`SELECT postrider.keep_result('other', id, created_at, '{}') FROM job`:                       "this transaction has not taken it",
		`SELECT postrider.keep_result('work', id + 1, created_at, '{}') FROM job`:                    "this transaction has not taken it",
		`SELECT postrider.keep_result('work', id, NULL, '{}') FROM job`:                              "this transaction has not taken it",
		`SELECT postrider.keep_result('work', id, created_at, to_json(repeat('x', 65535))) FROM job`: "result: has 65537 bytes: must be JSON of at most 65536",
		`SELECT postrider.keep_result('work', id, created_at, NULL) FROM job`:                        "result: has 0 bytes",
		`SELECT postrider.keep_result('none', id, created_at, '{}') FROM job`:                        `subscription "none": there is none of this name`,
	} {
		exec(t, conn, "SAVEPOINT s")
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sql, err, want)
		}
		exec(t, conn, "ROLLBACK TO s")
	}
	exec(t, conn, `SELECT postrider.keep_result('work', id, created_at, '{"n": 1}') FROM job`)
	exec(t, conn, `SELECT postrider.keep_result('work', id, created_at, '{"n": "\u0000"}') FROM job`) // the last one counts
	exec(t, conn, "COMMIT")
	if got := one[string](t, conn, `SELECT status || ' ' || result FROM postrider.deliveries_of(1, 'work')`); got != `delivered {"n": "\u0000"}` {
		t.Error(got)
	}
	if got := one[string](t, conn, `SELECT string_agg(of_subscription || ' ' || status || ' ' || coalesce(result::text, '-'), ', ') FROM postrider.deliveries_of(1)`); got != `other pending -, work delivered {"n": "\u0000"}` {
		t.Error(got)
	}
}

// A role that reads what came of messages reads nothing else.
func TestReaders(t *testing.T) {
	db := pgtest.New(t)
	role := db.Role(t, "reader", "")
	db.Exec(t, ReaderGrants(role))
	db.Exec(t, `SELECT postrider.subscribe('s', '{>}', 'stdout:', '{}', 'now')`)
	enqueue(t, db.Conn(t), "a")
	conn := connect(t, db.RoleURL(role))
	if got := one[string](t, conn, `SELECT status FROM postrider.deliveries_of(1, 's')`); got != "pending" {
		t.Error(got)
	}
	for _, sql := range []string{`SELECT FROM postrider.outbox`, `SELECT FROM postrider.deliveries`, `SELECT FROM postrider.results`, `SELECT postrider.empty_records('1 day')`} {
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// What workers in SQL say of attempts that were not accepted is kept with their COMMIT, once for each; of one that never came to COMMIT the next
// one tells, and operators are told that a worker was lost.
func TestAttemptsOfWorkersInSQL(t *testing.T) {
	s := newShop(t, `{"shards": 1, "max_attempts": 3}`)
	q := s.app
	subscribe(t, q, "alerts", "now", "$postrider.worker_lost.>")
	kept := func() string {
		t.Helper()
		return one[string](t, q, `SELECT coalesce(string_agg(format('%s: %s %s %s%s', id, attempt, outcome, reason, CASE WHEN due IS NULL THEN '' ELSE ', due' END), '; ' ORDER BY id, attempt, started_at), '') FROM postrider.attempts`)
	}
	wants := func(what, want string) {
		t.Helper()
		if got := kept(); got != want {
			t.Errorf("%s: kept are\n%s\nwant\n%s", what, got, want)
		}
	}
	exec(t, s.worker, "SET application_name = 'biller'")
	list := s.put("a", "b", "c", "d", "e")
	a, b, c, d, e := list[0], list[1], list[2], list[3], list[4]
	say := func(tx pgx.Tx) {
		exec(t, tx, `SELECT postrider.retry('w', $1, 'busy')`, a)
		exec(t, tx, `SELECT postrider.kill('w', $1, 'never')`, b)
		exec(t, tx, `SELECT postrider.snooze('w', $1, '1 hour', 'night')`, c)
		exec(t, tx, `SELECT postrider.give_back('w', $1)`, d)
	}
	tx := begin(t, s.worker)
	takeJobs(t, tx, "w", 5)
	say(tx)
	exec(t, tx, `SELECT postrider.uncount('w')`)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants("what was rolled back", "")
	s.batch(5, func(tx pgx.Tx, jobs []job) {
		exec(t, tx, `SELECT postrider.retry('w', $1, 'first said')`, a)
		say(tx)
	})
	first := fmt.Sprintf("%d: 1 failed busy, due; %d: 1 permanent never; %d: 1 snoozed night, due", a, b, c)
	wants("one of each", first)
	if got := one[bool](t, q, `SELECT bool_and(worker = session_user || ' biller' AND relay IS NULL AND took >= '0' AND started_at > now() - interval '1 hour') FROM postrider.attempts`); !got {
		t.Error("who made the attempts, and when, is not told")
	}
	if n := waiting(t, q); n != 0 {
		t.Errorf("%d events of workers that were not lost", n)
	}
	// One dies of d alone, twice; the third has it.
	die := func(most int) {
		tx := begin(t, s.worker)
		takeJobs(t, tx, "w", most)
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	die(1)
	die(1)
	wants("before anybody has come to COMMIT", first)
	s.batch(1, nil)
	wants("after two deaths", first+fmt.Sprintf("; %d: 2 lost its worker has not come to COMMIT, 2 times in a row", d))
	told := tell(t, q)
	if len(told) != 1 || told[0].Topic != "$postrider.worker_lost.w" || told[0].Count != 2 || told[0].Jobs != 1 || told[0].Reason != "no COMMIT came of its transaction" {
		t.Errorf("told: %+v", told)
	}
	// One of several: none is to blame.
	more := s.put("f", "g")
	die(2)
	s.batch(1, nil)
	wants("after the death of one with two", first+fmt.Sprintf("; %d: 2 lost its worker has not come to COMMIT, 2 times in a row", d))
	if told = tell(t, q); len(told) != 2 || told[1].Count != 1 || told[1].Jobs != 2 {
		t.Errorf("told: %+v", told)
	}
	s.batch(1, nil)
	// A killer ends as dead, with its attempts.
	killer := s.put("h")[0]
	for range 3 {
		die(1)
	}
	s.batch(1, nil)
	if got := one[string](t, q, `SELECT string_agg(attempt || ' ' || outcome || ' ' || reason, '; ') FROM postrider.attempts WHERE id = $1`, killer); got != "3 lost its worker has not come to COMMIT, 3 times in a row" {
		t.Errorf("of the killer is kept %s", got)
	}
	// Those who are told of lost workers are not told of their own.
	work(t, q, "own", `{"shards": 1}`)
	exec(t, q, `UPDATE postrider.subscriptions SET topics = '{$postrider.worker_lost.>,a.>}' WHERE name = 'own'`)
	s.put("x")
	for _, end := range []func(pgx.Tx){func(tx pgx.Tx) { exec(t, tx, "ROLLBACK") }, func(tx pgx.Tx) { exec(t, tx, "COMMIT") }} {
		tx := begin(t, s.worker)
		if got := takeJobs(t, tx, "own", 1); len(got) != 1 {
			t.Fatalf("taken: %v", got)
		}
		end(tx)
	}
	if n := one[int](t, q, `SELECT count(*) FROM postrider.events WHERE subject = 'own'`); n != 0 {
		t.Errorf("%d events of events", n)
	}
	s.batch(1, nil)
	// Who does not want them has none.
	n := one[int](t, q, `SELECT count(*) FROM postrider.attempts`)
	exec(t, q, `UPDATE postrider.subscriptions SET settings = '{"shards": 1, "max_attempts": 3, "keep_attempts": "none"}'`)
	last := s.put("i")[0]
	s.batch(1, func(tx pgx.Tx, _ []job) { exec(t, tx, `SELECT postrider.kill('w', $1, 'never')`, last) })
	if got := one[int](t, q, `SELECT count(*) FROM postrider.attempts`); got != n {
		t.Errorf("%d attempts are kept for nobody", got-n)
	}
	_, _ = more, e
}
