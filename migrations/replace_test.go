package migrations

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

func replaceUnique(t *testing.T, q querier, key, subscription string) answer {
	t.Helper()
	return answerOf(t, q, `SELECT id, duplicate FROM postrider.enqueue_unique('a.x', '{"n": 3}', $1, 'pending:' || $2, unique_replace => true)`, key, subscription)
}

func answerOf(t *testing.T, q querier, sql string, args ...any) answer {
	t.Helper()
	rows, err := q.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[answer])
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Of workers in SQL the older one is cancelled at once, wherever it waits, and the key is the latest one's.
func TestUniqueReplaceForWorkersInSQL(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	first := enqueueUnique(t, s.app, "k", "pending:w")
	second := replaceUnique(t, s.app, "k", "w")
	wantNew(t, "it takes the first one's place", second, first)
	wantDuplicate(t, "the key is the second one's", enqueueUnique(t, s.app, "k", "pending:w"), second)
	s.statuses(map[int64]string{first.ID: "cancelled", second.ID: "pending"})
	if got := one[string](t, s.app, `SELECT reason FROM postrider.parked WHERE id = $1`, first.ID); got != fmt.Sprintf("superseded by message %d", second.ID) {
		t.Errorf("the reason is %s", got)
	}
	s.batch(10, func(tx pgx.Tx, jobs []job) {
		wantIDs(t, "the latest", jobs, second.ID)
		exec(t, tx, `SELECT postrider.retry('w', $1)`, second.ID)
	})
	third := replaceUnique(t, s.app, "k", "w")
	s.statuses(map[int64]string{second.ID: "cancelled", third.ID: "pending"})
	wantIDs(t, "of the three", drainShards(t, s.worker, "w"), third.ID)
	fourth := replaceUnique(t, s.app, "k", "w")
	wantNew(t, "after all are settled", fourth, third)
	s.statuses(map[int64]string{third.ID: "delivered"})
	wantIDs(t, "the fourth", drainShards(t, s.worker, "w"), fourth.ID)
	if n := one[int](t, s.app, `SELECT count(*) FROM postrider.unique_formers`); n != 0 {
		t.Errorf("%d of those that were cancelled or delivered are remembered", n)
	}
}

// A producer never waits for a worker: what is in its shard goes on. If it dies it is not redriven while the latest one has the key.
func TestUniqueReplaceOfWhatAWorkerHas(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	first := enqueueUnique(t, s.app, "k", "pending:w")
	tx := begin(t, s.worker)
	wantIDs(t, "taken", takeJobs(t, tx, "w", 10), first.ID)
	second := replaceUnique(t, s.app, "k", "w") // on a connection without a lock_timeout: it would wait for good
	exec(t, tx, `SELECT postrider.kill('w', $1)`, first.ID)
	commit(t, tx)
	s.statuses(map[int64]string{first.ID: "dead", second.ID: "pending"})
	exec(t, s.app, `SELECT * FROM postrider.expire_unique(0, 1000)`)
	refused(t, s.app, `its unique key "k" is taken by message `, `SELECT postrider.redrive('w')`)
	wantIDs(t, "the second", drainShards(t, s.worker, "w"), second.ID)
	exec(t, s.app, `SELECT postrider.redrive('w')`)
	wantIDs(t, "the first", drainShards(t, s.worker, "w"), first.ID)
	exec(t, s.app, `SELECT * FROM postrider.expire_unique(0, 1000)`)
	if n := one[int](t, s.app, `SELECT count(*) FROM postrider.unique_formers`); n != 0 {
		t.Errorf("%d are remembered", n)
	}
}

// As long as it is not known what becomes of what was superseded, its key is remembered.
func TestUniqueReplaceIsRemembered(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	subscribe(t, s.app, "r", "now", "a.>")
	for _, name := range []string{"w", "r"} {
		tx := begin(t, s.worker)
		first := enqueueUnique(t, s.app, "k", "pending:"+name)
		if name == "w" {
			wantIDs(t, "taken", takeJobs(t, tx, "w", 10), first.ID)
		}
		replaceUnique(t, s.app, "k", name)
		exec(t, s.app, `SELECT * FROM postrider.expire_unique(0, 1000)`)
		if n := one[int](t, s.app, `SELECT count(*) FROM postrider.unique_formers WHERE subscription = $1 AND id = $2`, name, first.ID); n != 1 {
			t.Errorf("%s: %d are remembered, want the first", name, n)
		}
		commit(t, tx)
	}
	exec(t, s.app, `DELETE FROM postrider.cancels`) // it is known
	exec(t, s.app, `SELECT * FROM postrider.expire_unique(0, 1000)`)
	if n := one[int](t, s.app, `SELECT count(*) FROM postrider.unique_formers`); n != 0 {
		t.Errorf("%d are remembered, want none", n)
	}
}

// Of what a relay delivers the cancel is asked for, once, and who works on it is not told; a request of somebody else stays what it is.
func TestUniqueReplaceForRelays(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	subscribe(t, q, "r", "now", "a.>")
	first := enqueueUnique(t, q, "k", "pending:r")
	second := replaceUnique(t, q, "k", "r")
	wantNew(t, "it takes the first one's place", second, first)
	wantDuplicate(t, "the key is the second one's", enqueueUnique(t, q, "k", "pending:r"), second)
	exec(t, q, `SELECT postrider.cancel($1, 'r', 'not wanted')`, second.ID)
	third := replaceUnique(t, q, "k", "r")
	want := fmt.Sprintf("%d true superseded by message %d, %d false not wanted", first.ID, second.ID, second.ID)
	if got := one[string](t, q, `SELECT string_agg(concat_ws(' ', id, CASE WHEN waiting THEN 'true' ELSE 'false' END, reason), ', ' ORDER BY id) FROM postrider.cancels`); got != want {
		t.Errorf("the requests are: %s, want %s", got, want)
	}
	other := replaceUnique(t, q, "other", "r")
	wantNew(t, "a free key", other, third)
	if n := one[int](t, q, `SELECT count(*) FROM postrider.cancels`); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// Of two at once one waits for what becomes of the other, and what is rolled back cancels nothing.
func TestUniqueReplaceOfTwoAtOnce(t *testing.T) {
	for _, name := range []string{"w", "r"} {
		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			t.Run(name+" "+end, func(t *testing.T) {
				db := pgtest.New(t)
				a, b, watcher := db.Conn(t), db.Conn(t), db.Conn(t)
				work(t, a, "w", `{"shards": 1}`)
				subscribe(t, a, "r", "now", "a.>")
				first := enqueueUnique(t, a, "k", "pending:"+name)
				exec(t, a, "BEGIN")
				second := replaceUnique(t, a, "k", name)
				third := replaceUnique(t, a, "k", name)
				wantNew(t, "in the same transaction", third, first, second)
				got := make(chan int64, 1)
				go func() {
					var id int64
					if err := b.QueryRow(t.Context(), `SELECT id FROM postrider.enqueue_unique('a.x', '{"n": 4}', 'k', 'pending:' || $1, unique_replace => true)`, name).Scan(&id); err != nil {
						t.Error(err)
					}
					got <- id
				}()
				waitUntilWaiting(t, watcher, b)
				exec(t, a, end)
				last := <-got
				want := []int64{first.ID}
				if end == "COMMIT" {
					want = append(want, second.ID, third.ID)
				}
				var superseded []int64
				if name == "w" {
					superseded = one[[]int64](t, a, `SELECT array_agg(id ORDER BY id) FROM postrider.parked WHERE state = 'cancelled'`)
					wantIDs(t, "the last", drainShards(t, a, "w"), last)
				} else {
					superseded = one[[]int64](t, a, `SELECT array_agg(id ORDER BY id) FROM postrider.cancels`)
				}
				if !slices.Equal(superseded, want) {
					t.Errorf("superseded are %v, want %v", superseded, want)
				}
				if n := one[int64](t, a, `SELECT id FROM postrider.unique_keys`); n != last {
					t.Errorf("the key is message %d's, want %d", n, last)
				}
			})
		}
	}
}

// Under REPEATABLE READ, what a worker has done since cannot be seen, and the transaction is to be repeated.
func TestUniqueReplaceOfOldSnapshots(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	first := answerOf(t, s.app, `SELECT id, duplicate FROM postrider.enqueue_unique('a.x', '1', 'k', 'pending:w', deliver_at => now() + interval '1 hour')`)
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		exec(t, s.app, "BEGIN ISOLATION LEVEL "+level)
		one[int](t, s.app, "SELECT 1")
		put(t, s.worker, "other") // so that there is something to take
		if jobs := drainShards(t, s.worker, "w"); len(jobs) != 1 {
			t.Errorf("taken: %v", jobs)
		}
		refused(t, s.app, "40001", `SELECT postrider.enqueue_unique('a.x', '1', 'k', 'pending:w', unique_replace => true)`)
		exec(t, s.app, "ROLLBACK")
		exec(t, s.app, "BEGIN ISOLATION LEVEL "+level)
		wantNew(t, "repeated", replaceUnique(t, s.app, "k", "w"), first)
		exec(t, s.app, "ROLLBACK")
	}
}

// In a batch, the last one with replace has the key, whatever comes before and after it, and whoever had it before.
func TestUniqueReplaceInABatch(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	subscribe(t, s.app, "r", "now", "a.>")
	for _, name := range []string{"w", "r"} {
		first := enqueueUnique(t, s.app, "z", "pending:"+name)
		rows, err := s.app.Query(t.Context(), `SELECT id, duplicate FROM postrider.enqueue_many(topic => '{a.1,a.2,a.3,a.4,a.5,a.6}', payload => '{1,2,3,4,5,6}',
			unique_key => '{z,z,b,z,z,NULL}', unique_scope => array_replace('{p,p,p,p,p,NULL}', 'p', 'pending:' || $1), unique_replace => '{f,t,f,t,f,NULL}')`, name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[answer])
		if err != nil {
			t.Fatal(err)
		}
		b := got[2].ID
		if want := []answer{{b + 1, true}, {b + 1, true}, {b, false}, {b + 1, false}, {b + 1, true}, {b + 2, false}}; !slices.Equal(got, want) || b <= first.ID {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		if topics := one[string](t, s.app, `SELECT string_agg(topic, ' ' ORDER BY id) FROM postrider.outbox WHERE id >= $1`, b); topics != "a.3 a.4 a.6" {
			t.Errorf("%s: inserted: %s", name, topics)
		}
		if n := one[int](t, s.app, `SELECT (SELECT count(*) FROM postrider.parked WHERE id = $1 AND state = 'cancelled') + (SELECT count(*) FROM postrider.cancels WHERE id = $1 AND subscription = $2)`, first.ID, name); n != 1 {
			t.Errorf("%s: the first one was cancelled %d times", name, n)
		}
	}
}

func TestBadUniqueReplace(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	refused(t, q, `unique_replace true with unique_scope "1h": must be pending:SUBSCRIPTION`, `SELECT postrider.enqueue_unique('a.x', '1', 'k', '1h', unique_replace => true)`)
	refused(t, q, `unique_replace true without a unique_key: give unique_key, and unique_scope pending:SUBSCRIPTION`, `SELECT postrider.enqueue_unique('a.x', '1', NULL, NULL, unique_replace => true)`)
	refused(t, q, `unique_replace true without a unique_key`, `SELECT * FROM postrider.enqueue_many(topic => '{a}', payload => '{1}', unique_replace => '{t}')`)
	refused(t, q, `unique_replace true with unique_scope "1h"`, `SELECT * FROM postrider.enqueue_many(topic => '{a,a}', payload => '{1,1}', unique_key => '{k,k}', unique_scope => '{1h,1h}', unique_replace => '{f,t}')`)
	if n := one[int](t, q, `SELECT count(*) FROM postrider.outbox`); n != 0 {
		t.Errorf("%d messages were inserted", n)
	}
	exec(t, q, `SELECT postrider.enqueue_unique('a.x', '1', 'k', '1h', NULL, NULL, NULL, 2, NULL)`) // by place, as before
}

// Whoever was granted the functions alone may call those that took their place.
func TestUniqueReplaceKeepsGrants(t *testing.T) {
	db := pgtest.Empty(t)
	list, err := read()
	if err != nil {
		t.Fatal(err)
	}
	q := db.Conn(t)
	role := pgx.Identifier{db.Role(t, "caller", "")}.Sanitize()
	apply := func(until func(version int64) bool) {
		for len(list) > 0 && until(list[0].version) {
			for _, f := range list[0].files {
				exec(t, q, "BEGIN;"+f.text+";COMMIT")
			}
			list = list[1:]
		}
	}
	exec(t, q, "CREATE SCHEMA postrider")
	apply(func(version int64) bool { return version < 31 })
	exec(t, q, strings.ReplaceAll(`GRANT USAGE ON SCHEMA postrider TO ROLE; GRANT EXECUTE ON FUNCTION postrider.enqueue_unique TO ROLE`, "ROLE", role))
	apply(func(int64) bool { return true })
	exec(t, q, "SET ROLE "+role)
	exec(t, q, `SELECT postrider.enqueue_unique('a.x', '1', 'k', '1h')`)
	refused(t, q, "permission denied", `SELECT postrider.enqueue_many('{a.x}', payload => '{1}')`)
}
