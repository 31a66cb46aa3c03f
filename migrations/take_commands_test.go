package migrations

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

var shardCommands = []string{
	`SELECT postrider.pause('w')`,
	`SELECT postrider.resume('w')`,
	`SELECT postrider.replay('w', 'earliest')`,
	`SELECT postrider.redrive('w')`,
	`SELECT postrider.discard('w')`,
	`SELECT postrider.subscribe('w', '{c}', 'sql:', '{"shards": 2}')`,
	`UPDATE postrider.subscriptions SET topics = '{d}'`,
	`SELECT postrider.unsubscribe('w')`,
}

// A command waits for the workers that are at work, and they never wait for it: what they have begun, they can end.
func TestCommandsWaitForWorkers(t *testing.T) {
	for _, command := range shardCommands {
		t.Run(command, func(t *testing.T) {
			s := newShop(t, `{"shards": 2}`)
			m := s.put("k", "k")
			watcher := s.db.Conn(t)
			tx := begin(t, s.worker)
			wantIDs(t, "before", takeJobs(t, tx, "w", 1), m[0])
			result := goExec(t, s.app, command)
			waitUntilBlocked(t, watcher, s.app, result)
			exec(t, tx, `SET LOCAL lock_timeout = '5s'`)
			exec(t, tx, `SELECT postrider.retry('w', $1)`, m[0])
			commit(t, tx)
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

// Who waits in vain is told whom he waits for, also if that is a transaction without a process.
func TestWaitingForWorkersNamesThem(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	s.put("")
	tx := begin(t, s.worker)
	takeJobs(t, tx, "w", 1)
	holder := one[string](t, s.app, `SELECT holder FROM postrider.shard_holders() WHERE subscription = 'w' AND shard = 1`)
	if want := fmt.Sprintf(`process %d (role `, s.worker.PgConn().PID()); !strings.HasPrefix(holder, want) {
		t.Errorf("the shard is held by %q, want %s…", holder, want)
	}
	refused(t, s.app, `55P03 subscription "w" has been locked for longer than 10 seconds: shard 1 by process `, `SELECT postrider.pause('w')`)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, s.app, `SELECT count(*) FROM postrider.shard_holders()`); n != 0 {
		t.Errorf("%d shards are held by nobody", n)
	}
}

func TestPauseOfWorkers(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	m := s.put("", "")
	exec(t, s.app, `SELECT postrider.pause('w', 'holidays')`)
	s.wants("paused", s.batch(10, nil))
	s.statuses(map[int64]string{m[0]: "pending"})
	exec(t, s.app, `SELECT postrider.resume('w')`)
	s.wants("resumed", s.batch(10, nil), job{m[0], "", 1}, job{m[1], "", 1})
}

// Other topics apply to what comes from now on, also in the middle of a pass.
func TestTopicsOfWorkersChange(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	a := s.put("", "", "")
	b := one[int64](t, s.app, `SELECT postrider.enqueue('b.x', '1')`)
	s.wants("a pass begins", s.batch(1, nil), job{a[0], "", 1})
	open := begin(t, s.db.Conn(t))
	lateA := put(t, open, "")
	exec(t, open, `SELECT postrider.enqueue('b.x', '1')`)
	exec(t, s.app, `SELECT postrider.subscribe('w', '{b.>}', 'sql:', '{"shards": 1}')`)
	s.put("")
	newB := one[int64](t, s.app, `SELECT postrider.enqueue('b.y', '1')`)
	commit(t, open)
	s.statuses(map[int64]string{a[0]: "delivered", a[1]: "pending", newB: "pending"})
	got := drainShards(t, s.worker, "w")
	// What was inserted before the change and committed after it is new.
	wantIDs(t, "after the change", got, a[1], a[2], newB, lateA+1)
	if status := statuses(t, s.app, "w"); status[b] != "" || status[newB] != "delivered" {
		t.Errorf("statuses: %v", status)
	}
}

func TestReplayForWorkers(t *testing.T) {
	s := newShop(t, `{"shards": 3, "backoff_initial": "1h"}`)
	m := s.put("a", "b", "c", "", "", "")
	for range 10 {
		s.batch(10, func(tx pgx.Tx, jobs []job) {
			for _, j := range jobs {
				switch j.ID {
				case m[1]:
					behind(t, tx, `SELECT postrider.retry('w', $1)`, j.ID)
				case m[2]:
					behind(t, tx, `SELECT postrider.kill('w', $1)`, j.ID)
				}
			}
		})
	}
	s.due(m[0])
	if !one[bool](t, s.app, `SELECT postrider.replay('w', 'earliest')`) {
		t.Error("nothing replayed")
	}
	s.statuses(map[int64]string{m[0]: "pending", m[1]: "retrying", m[2]: "dead", m[3]: "pending"})
	wantIDs(t, "all but what is parked", drainShards(t, s.worker, "w"), m[0], m[3], m[4], m[5])
	s.statuses(map[int64]string{m[0]: "delivered", m[1]: "retrying", m[2]: "dead"})
	s.due(m[1])
	wantIDs(t, "the retry", drainShards(t, s.worker, "w"), m[1])
	skipped := s.put("a", "")
	exec(t, s.app, `SELECT postrider.replay('w', 'now')`)
	wantIDs(t, "after a leap to now", drainShards(t, s.worker, "w"))
	s.statuses(map[int64]string{skipped[0]: "delivered"})
}

// After a copy, into another cluster or within this one, nothing is lost or comes twice.
func TestRebaseForWorkers(t *testing.T) {
	for _, another := range []bool{true, false} {
		from := pgtest.New(t)
		app := from.Conn(t)
		work(t, app, "w", `{"shards": 2, "backoff_initial": "1h"}`)
		var done, open []int64
		for range 20 {
			done = append(done, put(t, app, ""))
		}
		wantIDs(t, "before", drainShards(t, app, "w"), done...)
		for _, key := range []string{"a", "a", "b", "", "c"} {
			open = append(open, put(t, app, key))
		}
		tx := begin(t, app)
		first := takeJobs(t, tx, "w", 1)
		exec(t, tx, `SELECT postrider.retry('w', $1)`, first[0].ID)
		commit(t, tx)
		to := pgtest.Empty(t)
		copyInto(t, from, to)
		there := to.Conn(t)
		if another {
			exec(t, there, `UPDATE postrider.source SET system_identifier = 1`)
			refused(t, there, "55000 the schema postrider was copied into this database from another cluster", `DO $$ BEGIN FOR i IN 1..30 LOOP PERFORM postrider.take('w'); END LOOP; END $$`)
		}
		exec(t, there, `SELECT postrider.rebase()`)
		exec(t, there, `UPDATE postrider.parked SET due = now() WHERE due > now()`)
		wantIDs(t, "there", drainShards(t, there, "w"), open...)
		late := put(t, there, "a")
		wantIDs(t, "new ones", drainShards(t, there, "w"), late)
	}
}

// A worker's role may do its work, and nothing else, for its own subscription alone.
func TestWorkersRoleMayTakeAndNothingElse(t *testing.T) {
	s := newShop(t, `{"shards": 1}`)
	work(t, s.app, "v", `{}`)
	role := s.db.Role(t, `wor"ker`, "")
	exec(t, s.app, SQLWorkerGrants(role, "w"))
	worker := connect(t, s.db.RoleURL(role))
	m := s.put("", "", "", "", "")
	tx := begin(t, worker)
	jobs := takeJobs(t, tx, "w", 10)
	wantIDs(t, "a worker's", jobs, m...)
	for i, call := range []string{`retry('w', $1, 'x')`, `kill('w', $1)`, `snooze('w', $1, '1 s')`, `give_back('w', $1)`} {
		exec(t, tx, `SELECT postrider.`+call, m[i])
	}
	commit(t, tx)
	exec(t, worker, `SELECT postrider.uncount('w')`)
	for _, sql := range []string{
		`SELECT postrider.take('v')`, `SELECT postrider.take('none')`, `SELECT postrider.retry('v', 1)`, `SELECT postrider.uncount('v')`,
		`SELECT postrider.settle_otherwise('w', 1, 'dead', '', NULL)`, `SELECT postrider.grant_worker(current_user::text, 'v')`,
		`SELECT FROM postrider.shards`, `SELECT FROM postrider.shard_positions`, `SELECT FROM postrider.shard_settings`, `SELECT FROM postrider.parked`,
		`SELECT FROM postrider.outbox`, `INSERT INTO postrider.shard_workers VALUES ('v', current_user)`, `SELECT postrider.enqueue('a.x', '1')`,
		`SELECT postrider.move_shards('w')`, `SELECT postrider.lock_shards('w')`, `SELECT postrider.close_segment(1::smallint, true)`, `SELECT postrider.pause('w')`,
		`SELECT nextval('postrider.tries_2')`, `SELECT postrider.shard_holders()`,
	} {
		refused(t, worker, "42501", sql)
	}
	// Whose rights a function has, and what SET ROLE says, is another matter.
	exec(t, s.app, `CREATE FUNCTION public.as_owner() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT id FROM postrider.take('v') $$`)
	exec(t, s.app, `GRANT EXECUTE ON FUNCTION public.as_owner() TO PUBLIC`)
	refused(t, worker, "42501", `SELECT public.as_owner()`)
	// A member of the role has its rights.
	member := s.db.Role(t, "member", "")
	exec(t, s.app, `GRANT `+pgx.Identifier{role}.Sanitize()+` TO `+pgx.Identifier{member}.Sanitize())
	exec(t, connect(t, s.db.RoleURL(member)), `SELECT postrider.take('w')`)
	if !one[bool](t, s.app, `SELECT postrider.revoke_worker($1, 'w')`, role) {
		t.Error("nothing revoked")
	}
	refused(t, worker, "42501", `SELECT postrider.take('w')`)
	refused(t, s.app, `42704 role "nobody at all": there is none`, `SELECT postrider.grant_worker('nobody at all', 'w')`)
	refused(t, s.app, `22023 subscription "x": there is none`, `SELECT postrider.grant_worker($1, 'x')`, role)
}

// Nobody's operators, functions or settings stand in for PostgreSQL's.
func TestHostileSessionsOfWorkers(t *testing.T) {
	s := newShop(t, `{"shards": 2}`)
	role := s.db.Role(t, "worker", "")
	exec(t, s.app, SQLWorkerGrants(role, "w"))
	exec(t, s.app, `GRANT CREATE ON SCHEMA public TO PUBLIC`)
	worker := connect(t, s.db.RoleURL(role))
	for _, trap := range []string{
		`CREATE FUNCTION public.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$`,
		`CREATE FUNCTION public.trap8(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$`,
		`CREATE OPERATOR public.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = public.trap)`,
		`CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.trap)`,
		`CREATE OPERATOR public.> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.trap8)`,
		`CREATE FUNCTION public.pg_current_snapshot() RETURNS pg_snapshot LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$`,
		`CREATE TEMP TABLE shards (subscription text, shard smallint)`,
		`CREATE TEMP TABLE outbox (id bigint)`,
		`SET search_path = pg_temp, public, pg_catalog`,
		`SET enable_indexscan = off`, `SET default_transaction_isolation = 'read committed'`, `SET row_security = on`, `SET plan_cache_mode = force_custom_plan`,
		`SET bytea_output = 'escape'`, `SET intervalstyle = 'sql_standard'`, `SET datestyle = 'SQL, DMY'`, `SET timezone = 'Asia/Kathmandu'`,
		`SET extra_float_digits = 0`,
	} {
		exec(t, worker, trap)
	}
	m := s.put("", "k", "k")
	tx := begin(t, worker)
	var got []job
	for range 5 {
		got = append(got, takeJobs(t, tx, "w", 10)...)
	}
	wantIDs(t, "in a hostile session", got, m...)
	exec(t, tx, `SELECT postrider.retry('w', $1)`, m[1])
	exec(t, tx, `SELECT postrider.give_back('w', $1)`, m[0])
	commit(t, tx)
	s.statuses(map[int64]string{m[0]: "retrying", m[1]: "retrying", m[2]: "held"})
}
