package migrations

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// job is a message as take hands it out.
type job struct {
	ID      int64
	Key     string
	Attempt int
}

// takeJobs returns what a worker gets, in its order.
func takeJobs(t *testing.T, q querier, name string, most int) []job {
	t.Helper()
	rows, err := q.Query(t.Context(), `SELECT id, coalesce(key, ''), attempt FROM postrider.take($1, $2)`, name, most)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[job])
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func ids(jobs []job) []int64 {
	var list []int64
	for _, j := range jobs {
		list = append(list, j.ID)
	}
	return list
}

// drainShards takes whatever there is, each batch in a transaction of its own, until no shard has anything.
func drainShards(t *testing.T, q querier, name string) []job {
	t.Helper()
	var all []job
	for none := 0; none < 3; {
		jobs := takeJobs(t, q, name, 1000)
		all = append(all, jobs...)
		if none++; len(jobs) > 0 {
			none = 0
		}
	}
	return all
}

func wantIDs(t *testing.T, what string, got []job, want ...int64) {
	t.Helper()
	list := ids(got)
	slices.Sort(list)
	slices.Sort(want)
	if !slices.Equal(list, want) {
		t.Errorf("%s: taken %v, want %v", what, list, want)
	}
}

func work(t *testing.T, q querier, name, settings string) {
	t.Helper()
	exec(t, q, `SELECT postrider.subscribe($1, '{a.>}', 'sql:', $2::jsonb)`, name, settings)
}

func put(t *testing.T, q querier, key string) int64 {
	t.Helper()
	return one[int64](t, q, `SELECT postrider.enqueue('a.x', '{"n": 1}', nullif($1, ''))`, key)
}

func TestCommitSettlesAndRollbackGivesBack(t *testing.T) {
	db := pgtest.New(t)
	app, worker := db.Conn(t), db.Conn(t)
	work(t, app, "w", `{"shards": 1}`)
	exec(t, app, `SELECT postrider.enqueue('b.other', '1')`)
	first := one[int64](t, app, `SELECT postrider.enqueue('a.x', '{"n": 7}', 'k', '{"h": "v"}', priority => 1)`)
	second := one[int64](t, app, `SELECT postrider.enqueue_bytes('a.y', '\x00ff')`)

	tx := begin(t, worker)
	var (
		id               int64
		topic, key       string
		payload, headers string
		body             []byte
		priority, tries  int
		old              bool
	)
	const query = `SELECT id, topic, coalesce(key, '-'), coalesce(payload::text, '-'), body, coalesce(headers::text, '-'), created_at <= now(), priority, attempt FROM postrider.take('w')`
	if err := tx.QueryRow(t.Context(), query).Scan(&id, &topic, &key, &payload, &body, &headers, &old, &priority, &tries); err != nil {
		t.Fatal(err)
	}
	if id != first || topic != "a.x" || key != "k" || payload != `{"n": 7}` || body != nil || headers != `{"h": "v"}` || !old || priority != 1 || tries != 1 {
		t.Errorf("the first message came as %d %s %s %s %v %s %v %d %d", id, topic, key, payload, body, headers, old, priority, tries)
	}
	if jobs := takeJobs(t, app, "w", 10); len(jobs) > 0 {
		t.Errorf("while one is at work on the only shard, another got %v", jobs)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	tx = begin(t, worker)
	if got := takeJobs(t, tx, "w", 1); len(got) != 1 || got[0].ID != first {
		t.Errorf("after the rollback %v came, want %d", got, first)
	}
	commit(t, tx)
	tx = begin(t, worker)
	if err := tx.QueryRow(t.Context(), query).Scan(&id, &topic, &key, &payload, &body, &headers, &old, &priority, &tries); err != nil {
		t.Fatal(err)
	}
	if id != second || key != "-" || payload != "-" || !slices.Equal(body, []byte{0, 255}) || headers != "-" {
		t.Errorf("the second message came as %d %s %s %v %s", id, key, payload, body, headers)
	}
	commit(t, tx)
	wantIDs(t, "at the end", drainShards(t, worker, "w"))
}

// A snapshot that PostgreSQL takes leaves the own transaction out: what it has inserted would count as settled.
func TestWorkersOwnMessagesAreNotLost(t *testing.T) {
	db := pgtest.New(t)
	app, worker := db.Conn(t), db.Conn(t)
	work(t, app, "w", `{"shards": 1}`)
	for _, order := range []string{"insert, take", "take, insert", "insert, take, insert"} {
		var want []int64
		tx := begin(t, worker)
		if strings.HasPrefix(order, "insert") {
			want = append(want, put(t, tx, "k"))
		}
		other := put(t, app, "k")
		wantIDs(t, order, takeJobs(t, tx, "w", 10), other)
		if strings.HasSuffix(order, "insert") {
			want = append(want, put(t, tx, "k"))
		}
		commit(t, tx)
		want = append(want, put(t, app, "k"))
		wantIDs(t, order+", later", drainShards(t, app, "w"), want...)
	}
}

// A message that was inserted before others and commits after them comes, too.
func TestLateCommitsAreTaken(t *testing.T) {
	db := pgtest.New(t)
	app, worker := db.Conn(t), db.Conn(t)
	work(t, app, "w", `{"shards": 3}`)
	var late []int64
	slow := begin(t, app)
	for range 20 {
		late = append(late, put(t, slow, ""))
	}
	var early []int64
	for range 50 {
		early = append(early, put(t, worker, ""))
	}
	wantIDs(t, "those that are visible", drainShards(t, worker, "w"), early...)
	for range 3000 { // most of the ids in between are settled by then
		early = append(early, put(t, worker, ""))
	}
	if got := drainShards(t, worker, "w"); len(got) != 3000 {
		t.Fatalf("%d messages, want 3000", len(got))
	}
	commit(t, slow)
	wantIDs(t, "those that come late", drainShards(t, worker, "w"), late...)
}

func TestTakeInIsolationLevels(t *testing.T) {
	db := pgtest.New(t)
	conn := db.Conn(t)
	work(t, conn, "w", `{}`)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, tx, "25001 take needs a READ COMMITTED transaction, not "+strings.ToUpper(string(level)), `SELECT postrider.take('w')`)
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTakeRefusesBadInput(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	work(t, conn, "w", `{}`)
	subscribe(t, conn, "hook", "now", "a")
	for sql, want := range map[string]string{
		`SELECT postrider.take('w', 0)`:                                                "22023 max 0: must be from 1 to 1000",
		`SELECT postrider.take('w', 1001)`:                                             "22023 max 1001: must be from 1 to 1000",
		`SELECT postrider.take('w', NULL)`:                                             "22023 max null: must be from 1 to 1000",
		`SELECT postrider.take('w', 1, '1 ms')`:                                        "22023 time_limit 00:00:00.001: must be an interval from 100 milliseconds to 1 day",
		`SELECT postrider.take('w', 1, '2 days')`:                                      "22023 time_limit 2 days: must be an interval from 100 milliseconds to 1 day",
		`SELECT postrider.take('none')`:                                                `22023 subscription "none": there is none of this name`,
		`SELECT postrider.take('hook')`:                                                `22023 subscription "hook": a relay delivers it`,
		`SELECT postrider.subscribe('x', '{a}', 'sql:x')`:                              "22023 sink sql:x: sql: takes nothing after the colon",
		`SELECT postrider.subscribe('x', '{a}', 'sql:', '{"shards":65}')`:              "22023 settings {\"shards\": 65}: shards must be from 1 to 64",
		`SELECT postrider.subscribe('x', '{a}', 'sql:', '{"shards":0}')`:               "22023 settings {\"shards\": 0}: shards must be from 1 to 64",
		`SELECT postrider.subscribe('x', '{a}', 'sql:', '{"backoff_initial":"soon"}')`: "22023 settings {\"backoff_initial\": \"soon\"}: invalid input syntax",
		`SELECT postrider.subscribe('w', '{a}', 'sql:', '{"shards":8}')`:               `22023 shards 8: "w" has 4 shards, which is fixed when a subscription is created`,
		`SELECT postrider.subscribe('w', '{a}', 'stdout:')`:                            "22023 sink sql:: it cannot become stdout: in place",
		`SELECT postrider.subscribe('hook', '{a}', 'sql:')`:                            "22023 sink stdout:: it cannot become sql: in place",
	} {
		refused(t, conn, want, sql)
	}
}

// What a relay delivers has cursors, and what workers take has none: no relay ever sees it.
func TestNoCursorsForWorkers(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	work(t, conn, "w", `{"shards": 7}`)
	if n := one[int](t, conn, `SELECT count(*) FROM postrider.cursors`); n != 0 {
		t.Errorf("there are %d cursors", n)
	}
	if n := one[int](t, conn, `SELECT count(*) FROM postrider.shards WHERE shard > 0`); n != 7 {
		t.Errorf("there are %d shards, want 7", n)
	}
	exec(t, conn, `SELECT postrider.unsubscribe('w')`)
	for _, left := range []string{
		`SELECT count(*) FROM postrider.shards`, `SELECT count(*) FROM postrider.shard_positions`, `SELECT count(*) FROM postrider.shard_settings`,
		`SELECT count(*) FROM pg_sequences WHERE schemaname = 'postrider' AND sequencename ~ '^tries_\d'`,
	} {
		if n := one[int](t, conn, left); n != 0 {
			t.Errorf("%s: %d after unsubscribing", left, n)
		}
	}
}

// A poll that finds nothing writes nothing.
func TestQuietPollsWriteNothing(t *testing.T) {
	db := pgtest.New(t)
	conn := db.Conn(t)
	work(t, conn, "w", `{}`)
	for range 5 {
		put(t, conn, "")
	}
	drainShards(t, conn, "w")
	exec(t, conn, `SELECT postrider.enqueue('b.other', '1')`)
	for range 20 {
		tx := begin(t, conn)
		wantIDs(t, "a quiet log", takeJobs(t, tx, "w", 10))
		if xid := one[*string](t, tx, `SELECT pg_current_xact_id_if_assigned()::text`); xid != nil {
			t.Fatalf("a poll that found nothing has written, as transaction %s", *xid)
		}
		commit(t, tx)
	}
}

// shards are the same in SQL and in Go, whatever the key.
func TestShardOf(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	for _, key := range []string{"", "a", "customer-17", "größe", "日本語", strings.Repeat("x", 5000), "\x01"} {
		for _, n := range []int{1, 2, 3, 4, 7, 64} {
			got := one[int](t, conn, `SELECT postrider.shard_of($1, 5, $2)`, key, n)
			if want := shardOf(key, n); got != want {
				t.Errorf("key %.20q of %d: shard %d, want %d", key, n, got, want)
			}
		}
	}
	for id, want := range map[int64]int{0: 1, 1: 2, 4: 1, 7: 4, -1: 2, -9223372036854775808: 1} {
		if got := one[int](t, conn, `SELECT postrider.shard_of(NULL, $1, 4)`, id); got != want {
			t.Errorf("id %d: shard %d, want %d", id, got, want)
		}
	}
}

// A look at the log that began before the topics were changed says nothing of what matches the new ones.
func TestFloorsOfOtherTopicsAreNone(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("")
	exec(t, s.app, `DO $$
		DECLARE
			s postrider.shard_settings;
		BEGIN
			SELECT * INTO s FROM postrider.shard_settings;
			s.version := s.version - 1;
			PERFORM postrider.raise_floor(s, pg_current_snapshot(), 0::smallint);
		END $$`)
	if n := one[int](t, s.app, `SELECT count(*) FROM postrider.shard_bases() b, postrider.outbox o WHERE NOT pg_visible_in_snapshot(o.xid, b::pg_snapshot)`); n != 1 {
		t.Error("its segment could be emptied")
	}
	exec(t, s.app, `UPDATE postrider.shard_positions SET saved_at = saved_at - interval '1 hour'`)
	if n := one[int](t, s.app, `SELECT postrider.raise_floors()`); n != 0 {
		t.Error("a relay raises the floor, from one that is none")
	}
	s.wants("behind a floor of another version", s.batch(10, nil), job{m[0], "", 1})
}

// A poll that had to look at much of others' saves that itself, where no relay does.
func TestPollsRaiseTheirFloor(t *testing.T) {
	s := newShop(t, `{"shards": 2}`)
	exec(t, s.app, `SELECT postrider.enqueue('b.other', '1') FROM generate_series(1, 300)`)
	s.wants("others' messages", s.batch(10, nil))
	if n := one[int](t, s.app, `SELECT count(*) FROM postrider.shard_bases() b, postrider.outbox o WHERE NOT pg_visible_in_snapshot(o.xid, b::pg_snapshot)`); n != 0 {
		t.Errorf("%d of them are to be looked at again", n)
	}
	m := s.put("a")
	s.wants("its own", s.batch(10, nil), job{m[0], "a", 1})
}

// What only a relay can do is refused where workers take messages in SQL, however it gets into the table.
func TestExpressionsAreForRelays(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	work(t, conn, "w", `{}`)
	for sql, name := range map[string]string{
		`SELECT postrider.subscribe('x', '{a}', 'sql:', '{"filter": "true"}')`:                            "filter",
		`SELECT postrider.subscribe('w', '{a}', 'sql:', '{"transform": {"payload": "payload"}}')`:         "transform",
		`UPDATE postrider.subscriptions SET settings = settings || '{"filter": "true"}' WHERE name = 'w'`: "filter",
	} {
		refused(t, conn, "22023 "+name+": a subscription with the sink sql: has none, for no relay delivers its messages", sql)
	}
	exec(t, conn, `SELECT postrider.subscribe('hook', '{a}', 'https://host/hook', '{"filter": "true"}')`)
}
