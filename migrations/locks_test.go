package migrations

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// What a relay's save does: the subscription in the mode of foreign keys, the cursor, then what hangs on their being found.
const (
	saveLocks = `SELECT c.subscription FROM postrider.subscriptions s JOIN postrider.cursors c ON c.subscription = s.name
		WHERE s.name = 's' FOR KEY SHARE OF s SKIP LOCKED FOR UPDATE OF c SKIP LOCKED`
	saveParked = `UPDATE postrider.parked SET attempts = attempts + 1 WHERE subscription = 's'`
	saveNew    = `INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload)
		SELECT name, (random() * 1e12)::bigint, 'dead', now(), 'a', '1' FROM postrider.subscriptions WHERE name = 's'`
	save = `WITH locked AS (` + saveLocks + `),
		mine AS (UPDATE postrider.cursors c SET saved_at = now() FROM locked l WHERE c.subscription = l.subscription RETURNING c.subscription),
		changed AS (UPDATE postrider.parked p SET attempts = attempts + 1 FROM mine WHERE p.subscription = mine.subscription)
		INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload)
		SELECT subscription, (random() * 1e12)::bigint, 'dead', now(), 'a', '1' FROM mine`
)

var commands = []string{
	`SELECT postrider.redrive('s')`,
	`SELECT postrider.redrive('s', (SELECT array_agg(id ORDER BY random()) FROM postrider.parked))`,
	`SELECT postrider.discard('s')`,
	`SELECT postrider.replay('s', 'now')`,
	`SELECT postrider.replay('s', 'earliest')`,
	`SELECT postrider.pause('s')`,
	`SELECT postrider.resume('s')`,
	`UPDATE postrider.subscriptions SET topics = ARRAY['a', 'b' || (random() * 9)::int]`,
	`SELECT postrider.unsubscribe('s')`,
}

// A command that comes while a relay saves waits for it, and the relay never waits for the command.
func TestCommandsDuringSave(t *testing.T) {
	for _, command := range commands {
		t.Run(command, func(t *testing.T) {
			db := pgtest.New(t)
			conn, watcher := db.Conn(t), db.Conn(t)
			subscribe(t, conn, "s", "now", "a")
			park(t, conn, "s", enqueue(t, conn, "a"), "dead")
			relay := begin(t, db.Conn(t))
			exec(t, relay, saveLocks)
			exec(t, relay, saveParked)
			result := goExec(t, conn, command)
			waitUntilBlocked(t, watcher, conn, result)
			exec(t, relay, `SET LOCAL lock_timeout = '5s'`)
			exec(t, relay, saveNew)
			commit(t, relay)
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

// goExec runs sql beside the test; the error arrives once.
func goExec(t *testing.T, conn *pgx.Conn, sql string) <-chan error {
	result := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := conn.Exec(t.Context(), sql)
		result <- err
	})
	t.Cleanup(wg.Wait)
	return result
}

// waitUntilBlocked returns when conn waits for a lock, or has a result and so never will.
func waitUntilBlocked(t *testing.T, watcher, conn *pgx.Conn, result <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil && len(result) == 0 {
		if one[bool](t, watcher, `SELECT cardinality(pg_blocking_pids($1)) > 0`, conn.PgConn().PID()) {
			return
		}
	}
	if len(result) == 0 {
		t.Fatal("the command neither ended nor waited for a lock")
	}
}

// Commands, saves and messages at once: nobody is ever the victim of a deadlock.
func TestNoDeadlocks(t *testing.T) {
	db := pgtest.New(t)
	admin := db.Conn(t)
	exec(t, admin, `ALTER DATABASE `+pgx.Identifier{db.Name}.Sanitize()+` SET deadlock_timeout = '100ms'`)
	subscribe(t, admin, "s", "now", "a")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	run := func(steps func() []string) {
		conn := db.Conn(t)
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
					for _, sql := range steps() {
						if _, err := tx.Exec(t.Context(), sql); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		run(func() []string { return []string{save} })
		run(func() []string { return []string{commands[rand.IntN(len(commands)-1)]} })
	}
	run(func() []string { return []string{commands[rand.IntN(len(commands)-1)]} })
	run(func() []string {
		return []string{`SELECT postrider.unsubscribe('s')`, `SELECT postrider.subscribe('s', '{a}', 'stdout:')`, saveNew}
	})
	run(func() []string { return []string{`SELECT postrider.enqueue('a', '1')`} })
	wg.Wait()
	if t.Failed() {
		t.Log(db.Server.LogTail(60))
	}
}
