package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/linktest"
)

const (
	// wasted is how many ids are lost: more than are used until it is looked how many of them are handed out again.
	wasted = 1000
	// ticksTake is how long it takes relays to see that they have ended, at their slowest pace.
	ticksTake = 1500 * time.Millisecond
	// used is how many of them applications have used again before relays see the server again.
	used = 10
	// reuseAttempts is how often it is tried: whatever gets into the log in between spoils it.
	reuseAttempts = 3
)

// reuseIDs assigns ids to work that is rolled back, none of which gets into the log, waits until relays have taken snapshots
// that count them as ended, and kills the backend. The server recovers and hands them out again: to whoever goes by a
// snapshot from before, the next messages are settled.
func reuseIDs(ctx context.Context, w *world, _ *rand.Rand) error {
	for range reuseAttempts {
		reused, err := w.reuseOnce(ctx)
		if err != nil || reused > 0 {
			w.mu.Lock()
			w.reused += reused
			w.mu.Unlock()
			return err
		}
	}
	return nil
}

// reuseOnce returns how many ids at least were handed out again.
func (w *world) reuseOnce(ctx context.Context) (int, error) {
	if err := w.db.quickWriter(ctx, false); err != nil {
		return 0, err
	}
	w.apps.gate.Lock() // whoever commits writes to the log
	unlock := sync.OnceFunc(w.apps.gate.Unlock)
	defer unlock()
	var conn *pgx.Conn
	err := poll(ctx, time.Minute, func() (err error) {
		conn, err = connect(ctx, w.db.url("postgres"))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	last, err := waste(ctx, conn)
	if err != nil {
		w.say("nothing was rolled back: %v", err)
		return 0, w.db.quickWriter(ctx, true)
	}
	pause(ctx, ticksTake)
	everywhere := slices.Concat(w.links...)
	everywhere.each((*linktest.Link).Cut)
	err = w.db.primary().KillBackend(ctx, int(conn.PgConn().PID()))
	unlock()
	var reused int
	if err == nil {
		reused, err = w.awaitReuse(ctx, last)
	}
	return reused, errors.Join(err, everywhere.heal(), w.db.quickWriter(ctx, true))
}

// awaitReuse waits until the server is back and applications have used some of the ids up to last, and returns how many there were.
func (w *world) awaitReuse(ctx context.Context, last int) (int, error) {
	next, err := one[int](ctx, w.db, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int")
	if err != nil {
		return 0, err
	}
	reused := max(last-next+1, 0)
	w.say("%d transaction ids are handed out again", reused)
	return reused, poll(ctx, time.Minute, func() error {
		n, err := one[int](ctx, w.db, "SELECT count(*)::int FROM torture.tx WHERE xid BETWEEN $1::text::xid8 AND $2::text::xid8", strconv.Itoa(next), strconv.Itoa(last))
		if err == nil && n < min(used, reused/5) {
			err = fmt.Errorf("only %d of %d transaction ids were used again", n, reused)
		}
		return err
	})
}

// quickWriter makes the server write out what nobody waits for every 200 ms, or not for a while.
func (d *database) quickWriter(ctx context.Context, yes bool) error {
	setting := "SET wal_writer_delay = '10s'"
	if yes {
		setting = "RESET wal_writer_delay"
	}
	if err := d.try(ctx, "ALTER SYSTEM "+setting); err != nil {
		return err
	}
	return d.try(ctx, "SELECT pg_reload_conf()")
}

// waste keeps a transaction open in which savepoints have got ids and were rolled back, and returns the last id. Other than
// transactions that end, savepoints do not ask for the log to be written. While it is open, relays commit nothing: they wait
// for locks, or do without.
func waste(ctx context.Context, conn *pgx.Conn) (last int, err error) {
	for _, sql := range []string{
		"CREATE TEMP TABLE junk ()",
		"SET lock_timeout = '5s'",
		"BEGIN",
		"LOCK TABLE postrider.source, postrider.subscriptions, postrider.cursors, postrider.relays IN SHARE MODE",
		fmt.Sprintf(`DO $$ BEGIN
			FOR i IN 1..%d LOOP
				BEGIN
					INSERT INTO junk DEFAULT VALUES;
					RAISE EXCEPTION 'no';
				EXCEPTION WHEN raise_exception THEN
				END;
			END LOOP;
		END $$`, wasted),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	err = conn.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int - 1").Scan(&last)
	return last, err
}
