package migrations

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// answer is what enqueue_unique says.
type answer struct {
	ID        int64
	Duplicate bool
}

func enqueueUnique(t *testing.T, q querier, key, scope string) answer {
	t.Helper()
	rows, err := q.Query(t.Context(), `SELECT id, duplicate FROM postrider.enqueue_unique('a.x', '{"n": 1}', $1, $2)`, key, scope)
	if err != nil {
		t.Fatal(err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[answer])
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantNew(t *testing.T, what string, got answer, than ...answer) {
	t.Helper()
	for _, other := range than {
		if got.ID == other.ID {
			t.Errorf("%s: message %d again, want a new one", what, got.ID)
		}
	}
	if got.Duplicate || got.ID == 0 {
		t.Errorf("%s: got %+v, want a new message", what, got)
	}
}

func wantDuplicate(t *testing.T, what string, got, of answer) {
	t.Helper()
	if !got.Duplicate || got.ID != of.ID {
		t.Errorf("%s: got %+v, want a duplicate of %d", what, got, of.ID)
	}
}

// goUnique enqueues on another connection, which may have to wait.
func goUnique(t *testing.T, q querier, key, scope string) <-chan answer {
	result := make(chan answer, 1)
	go func() {
		var a answer
		rows, err := q.Query(t.Context(), `SELECT id, duplicate FROM postrider.enqueue_unique('a.x', '{"n": 2}', $1, $2)`, key, scope)
		if err == nil {
			a, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[answer])
		}
		if err != nil {
			t.Error(err)
		}
		result <- a
	}()
	return result
}

// Of two at once one waits for what becomes of the other.
func TestUniqueOfTwoAtOnce(t *testing.T) {
	for _, scope := range []string{"pending:w", "pending:r", "1h"} {
		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			t.Run(scope+" "+end, func(t *testing.T) {
				db := pgtest.New(t)
				a, b, watcher := db.Conn(t), db.Conn(t), db.Conn(t)
				work(t, a, "w", `{}`)
				subscribe(t, a, "r", "now", "a.>")
				exec(t, a, "BEGIN")
				first := enqueueUnique(t, a, "k", scope)
				wantNew(t, "the first", first)
				wantDuplicate(t, "in the same transaction", enqueueUnique(t, a, "k", scope), first)
				wantNew(t, "another key", enqueueUnique(t, a, "other", scope), first)
				got := goUnique(t, b, "k", scope)
				waitUntilWaiting(t, watcher, b)
				exec(t, a, end)
				second := <-got
				if end == "COMMIT" {
					wantDuplicate(t, "after COMMIT", second, first)
				} else {
					wantNew(t, "after ROLLBACK", second, first)
					wantDuplicate(t, "who waited has the key", enqueueUnique(t, a, "k", scope), second)
				}
				if n := one[int](t, a, `SELECT count(*) FROM postrider.outbox WHERE payload ->> 'n' = '2'`); n != map[string]int{"COMMIT": 0, "ROLLBACK": 1}[end] {
					t.Errorf("%d messages of the second producer", n)
				}
			})
		}
	}
}

// So it is where a key was somebody's before: who comes second waits for the first one's end, and is answered by what came of it.
func TestUniqueOfTwoAtOnceAfterAnother(t *testing.T) {
	for _, scope := range []string{"pending:w", "1h"} {
		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			t.Run(scope+" "+end, func(t *testing.T) {
				db := pgtest.New(t)
				a, b, watcher := db.Conn(t), db.Conn(t), db.Conn(t)
				work(t, a, "w", `{}`)
				former := enqueueUnique(t, a, "k", scope)
				exec(t, a, "BEGIN; SELECT id FROM postrider.take('w', 10); COMMIT")
				exec(t, a, "UPDATE postrider.unique_keys SET until = until - interval '2 hours'")
				exec(t, a, "BEGIN")
				first := enqueueUnique(t, a, "k", scope)
				wantNew(t, "the first", first, former)
				got := goUnique(t, b, "k", scope)
				waitUntilWaiting(t, watcher, b)
				exec(t, a, end)
				if second := <-got; end == "COMMIT" {
					wantDuplicate(t, "after COMMIT", second, first)
				} else {
					wantNew(t, "after ROLLBACK", second, first, former)
				}
			})
		}
	}
}

// waitUntilWaiting waits until a session waits for another one's transaction.
func waitUntilWaiting(t *testing.T, watcher, of *pgx.Conn) {
	t.Helper()
	for !one[bool](t, watcher, `SELECT cardinality(pg_blocking_pids($1)) > 0`, of.PgConn().PID()) {
		if t.Context().Err() != nil {
			t.Fatal("it never waited")
		}
	}
}

func TestUniqueAndSavepoints(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	work(t, q, "w", `{}`)
	tx := begin(t, q)
	exec(t, tx, "SAVEPOINT s")
	first := enqueueUnique(t, tx, "k", "pending:w")
	exec(t, tx, "ROLLBACK TO s")
	second := enqueueUnique(t, tx, "k", "pending:w")
	wantNew(t, "after ROLLBACK TO", second, first)
	commit(t, tx)
	wantDuplicate(t, "later", enqueueUnique(t, q, "k", "pending:w"), second)
}

// Under REPEATABLE READ a key that somebody else has taken meanwhile cannot be judged, and the transaction is to be repeated.
func TestUniqueOfOldSnapshots(t *testing.T) {
	db := pgtest.New(t)
	a, b := db.Conn(t), db.Conn(t)
	exec(t, a, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	one[int](t, a, "SELECT 1")
	first := enqueueUnique(t, b, "k", "1h")
	refused(t, a, "40001", `SELECT postrider.enqueue_unique('a.x', '1', 'k', '1h')`)
	exec(t, a, "ROLLBACK")
	exec(t, a, "BEGIN ISOLATION LEVEL SERIALIZABLE")
	wantDuplicate(t, "known from the start", enqueueUnique(t, a, "k", "1h"), first)
	exec(t, a, "ROLLBACK")
}

// A key that is taken for a time is free after that, whatever became of its message.
func TestUniqueForATime(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	work(t, q, "w", `{}`)
	first := enqueueUnique(t, q, "k", "90 minutes")
	wantIDs(t, "taken", drainShards(t, q, "w"), first.ID)
	wantDuplicate(t, "delivered", enqueueUnique(t, q, "k", "1h"), first)
	wantNew(t, "the same key while pending", enqueueUnique(t, q, "k", "pending:w"), first)
	if !one[bool](t, q, `SELECT until BETWEEN clock_timestamp() + '89 minutes' AND clock_timestamp() + '90 minutes' FROM postrider.unique_keys WHERE subscription = ''`) {
		t.Error("the key is taken for another time")
	}
	exec(t, q, `UPDATE postrider.unique_keys SET until = clock_timestamp() WHERE subscription = ''`)
	wantNew(t, "after its time", enqueueUnique(t, q, "k", "1h"), first)
}

// To workers in SQL a message is pending until the COMMIT of the one that took it; what comes meanwhile is enqueued.
func TestUniqueForWorkersInSQL(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	first := enqueueUnique(t, s.app, "k", "pending:w")
	wantDuplicate(t, "pending", enqueueUnique(t, s.app, "k", "pending:w"), first)
	tx := begin(t, s.worker)
	wantIDs(t, "taken", takeJobs(t, tx, "w", 10), first.ID)
	second := enqueueUnique(t, s.app, "k", "pending:w")
	wantNew(t, "while the first is out", second, first)
	for range 3 {
		wantDuplicate(t, "of the second, which nobody has yet", enqueueUnique(t, s.app, "k", "pending:w"), second)
	}
	commit(t, tx)
	wantDuplicate(t, "still", enqueueUnique(t, s.app, "k", "pending:w"), second)
	tx = begin(t, s.worker)
	wantIDs(t, "the second", takeJobs(t, tx, "w", 10), second.ID)
	exec(t, tx, `SELECT postrider.retry('w', $1)`, second.ID)
	commit(t, tx)
	wantDuplicate(t, "it failed and waits", enqueueUnique(t, s.app, "k", "pending:w"), second)
	s.due(second.ID)
	s.batch(10, func(tx pgx.Tx, jobs []job) { exec(t, tx, `SELECT postrider.kill('w', $1)`, jobs[0].ID) })
	third := enqueueUnique(t, s.app, "k", "pending:w")
	wantNew(t, "dead frees the key", third, first, second)
	refused(t, s.app, `23505 message `, `SELECT postrider.redrive('w')`)
	refused(t, s.app, `its unique key "k" is taken by message `, `SELECT postrider.redrive('w', $1)`, []int64{second.ID})
	wantIDs(t, "the third", drainShards(t, s.worker, "w"), third.ID)
	exec(t, s.app, `SELECT postrider.redrive('w')`)
	wantDuplicate(t, "redriven, it has its key again", enqueueUnique(t, s.app, "k", "pending:w"), second)
	wantIDs(t, "redriven", drainShards(t, s.worker, "w"), second.ID)
	wantNew(t, "settled", enqueueUnique(t, s.app, "k", "pending:w"), first, second, third)
}

// A pause of one subscription keeps another one's producers from nothing.
func TestUniqueNamesOneSubscription(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	work(t, s.app, "audit", `{}`)
	exec(t, s.app, `SELECT postrider.pause('audit')`)
	first := enqueueUnique(t, s.app, "k", "pending:w")
	wantIDs(t, "taken", drainShards(t, s.worker, "w"), first.ID)
	wantNew(t, "settled for w alone", enqueueUnique(t, s.app, "k", "pending:w"), first)
	audit := enqueueUnique(t, s.app, "k", "pending:audit")
	wantNew(t, "audit's key is another", audit, first)
	wantDuplicate(t, "pending for audit", enqueueUnique(t, s.app, "k", "pending:audit"), audit)
}

// Two batches that want the same keys in opposite orders wait for each other in turn.
func TestUniqueBatchesDoNotDeadlock(t *testing.T) {
	db := pgtest.New(t)
	a, b := db.Conn(t), db.Conn(t)
	const batch = `SELECT count(*) FILTER (WHERE NOT duplicate) FROM postrider.enqueue_many(
		topic => array_fill('a.x'::text, ARRAY[200]), payload => array_fill('1'::jsonb, ARRAY[200]),
		unique_key => ARRAY(SELECT 'k' || g FROM generate_series(1, 200) g ORDER BY CASE WHEN $1 THEN g ELSE -g END), unique_scope => array_fill('1h'::text, ARRAY[200]))`
	for range 20 {
		exec(t, a, "BEGIN")
		n := one[int](t, a, batch, true)
		other := make(chan int, 1)
		go func() {
			var m int
			if err := b.QueryRow(t.Context(), batch, false).Scan(&m); err != nil {
				t.Error(err)
			}
			other <- m
		}()
		exec(t, a, "COMMIT")
		if m := <-other; n+m != 200 {
			t.Errorf("%d and %d messages are new, want 200 together", n, m)
		}
		exec(t, a, "DELETE FROM postrider.unique_keys")
	}
}

// In a batch, what has no unique key is never a duplicate, and answers come in the batch's order.
func TestUniqueInABatch(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	first := enqueueUnique(t, q, "b", "1h")
	rows, err := q.Query(t.Context(), `SELECT id, duplicate FROM postrider.enqueue_many(topic => '{a.1,a.2,a.3,a.4,a.5}', payload => '{1,2,3,4,5}',
		unique_key => '{z,NULL,b,z,a}', unique_scope => '{1h,NULL,1h,1h,1h}')`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[answer])
	if err != nil {
		t.Fatal(err)
	}
	z := got[0].ID
	for i, want := range []answer{{z, false}, {z + 1, false}, {first.ID, true}, {z, true}, {z + 2, false}} {
		if got[i] != want {
			t.Errorf("message %d: got %+v, want %+v", i, got[i], want)
		}
	}
	if topics := one[string](t, q, `SELECT string_agg(topic, ' ' ORDER BY id) FROM postrider.outbox WHERE id >= $1`, z); topics != "a.1 a.2 a.5" {
		t.Errorf("inserted: %s", topics)
	}
}

func TestBadUniqueKeys(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	for _, c := range []struct{ key, scope, want string }{
		{"k", "pending", `unique_scope "pending": must be pending:SUBSCRIPTION, or a time of at most a year such as 1h or 2 days`},
		{"k", "pending:none", `unique_scope "pending:none": there is no subscription "none"`},
		{"k", "forever", `unique_scope "forever": must be`},
		{"k", "-1h", `unique_scope "-1h": must be`},
		{"k", "0s", `unique_scope "0s": must be`},
		{"k", "3", `unique_scope "3": must be`},
		{"k", "2 years", `unique_scope "2 years": must be`},
		{"", "1h", `unique_key "" with unique_scope "1h": give both or neither`},
		{strings.Repeat("ä", 501), "1h", `has 1002 bytes: at most 1000 are allowed`},
	} {
		refused(t, q, c.want, `SELECT postrider.enqueue_unique('a.x', '1', $1, $2)`, c.key, c.scope)
	}
	refused(t, q, `unique_key null with unique_scope "1h"`, `SELECT postrider.enqueue_unique('a.x', '1', NULL, '1h')`)
	refused(t, q, `unique_key "k" with unique_scope null`, `SELECT * FROM postrider.enqueue_many(topic => '{a}', payload => '{1}', unique_key => '{k}')`)
	if n := one[int](t, q, `SELECT count(*) FROM postrider.outbox`); n != 0 {
		t.Errorf("%d messages were inserted", n)
	}
}

// Keys that are free again are removed, and no others.
func TestUniqueKeysExpire(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	settled := enqueueUnique(t, s.app, "settled", "pending:w")
	wantIDs(t, "taken", drainShards(t, s.worker, "w"), settled.ID)
	pending := enqueueUnique(t, s.app, "pending", "pending:w")
	enqueueUnique(t, s.app, "an hour", "1h")
	enqueueUnique(t, s.app, "over", "1h")
	exec(t, s.app, `UPDATE postrider.unique_keys SET until = clock_timestamp() WHERE key = 'over'`)
	tx := begin(t, s.worker)
	wantDuplicate(t, "locked", enqueueUnique(t, tx, "pending", "pending:w"), pending)
	if n := one[int](t, s.app, `SELECT removed FROM postrider.expire_unique(0, 1000)`); n != 2 {
		t.Errorf("%d keys removed, want 2", n)
	}
	commit(t, tx)
	if left := one[string](t, s.app, `SELECT string_agg(key, ', ' ORDER BY key) FROM postrider.unique_keys`); left != "an hour, pending" {
		t.Errorf("left are %s", left)
	}
}
