package store

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestLook takes ticks in both ways and holds them against what the server says in text.
func TestLook(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	old, err := b.App.Begin(t.Context())
	mend(t, err)
	defer old.Rollback(context.WithoutCancel(t.Context()))
	o := b.outboxReader()
	ctx := t.Context() // the session's, which ends with it
	for _, prepare := range []bool{true, false} {
		t.Run("prepared="+strconv.FormatBool(prepare), func(t *testing.T) {
			o.Session.prepare = prepare
			for range 8 { // past the custom plans
				var mine uint64
				mend(t, old.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&mine))
				committed, before := commitNow(t, b)
				tick, err := o.Session.tick(ctx, o.Incarnation)
				mend(t, err)
				if tick.snapshot.Sees(mine) || !tick.snapshot.Sees(committed) {
					t.Errorf("%s: transaction %d runs, %d has committed", tick.snapshot, mine, committed)
				}
				after := walPosition(t, b)
				if p := int64(tick.lsn); p < before || p > after {
					t.Errorf("position %s: not between those before and after, %d and %d", tick.lsn, before, after)
				}
			}
		})
	}
}

// commitNow commits a transaction and returns its id and the position of the log after it.
func commitNow(t *testing.T, b *bench) (xid uint64, at int64) {
	t.Helper()
	mend(t, b.Admin.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&xid))
	return xid, walPosition(t, b)
}

func walPosition(t *testing.T, b *bench) (at int64) {
	t.Helper()
	mend(t, b.Admin.QueryRow(t.Context(), "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").Scan(&at))
	return at
}

// TestLookFails: a registration that is gone, an error of the server, and a server that does not answer.
func TestLookFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	o := b.outboxReader()
	ctx := t.Context()
	if _, err := o.Session.tick(ctx, "5f0c1d6e-0000-4000-8000-000000000002"); !errors.Is(err, ErrLost) {
		t.Errorf("nobody is registered: %v", err)
	}
	connect := func() *Session {
		conn, err := pgx.Connect(ctx, b.DB.RoleURL(b.Role))
		mend(t, err)
		s := NewSession(conn)
		t.Cleanup(s.close)
		return s
	}
	_, err := connect().tick(ctx, "nobody")
	if _, is := errors.AsType[*pgconn.PgError](err); !is || errors.Is(err, ErrLost) {
		t.Errorf("an incarnation that is no uuid: %v", err)
	}

	hanging := connect()
	inTime, cancel := context.WithCancel(ctx)
	_, err = hanging.tick(inTime, o.Incarnation)
	mend(t, err)
	lock, err := b.Admin.Begin(ctx)
	mend(t, err)
	defer lock.Rollback(context.WithoutCancel(ctx))
	_, err = lock.Exec(ctx, "LOCK postrider.relays")
	mend(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := hanging.tick(inTime, o.Incarnation)
		done <- err
	}()
	eventually(t, "the look waits", func() bool {
		return scalar[int](b, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") == 1
	})
	cancel()
	if err := <-done; err == nil {
		t.Error("a server that does not answer has answered")
	}
	if _, err := hanging.tick(inTime, o.Incarnation); err == nil {
		t.Error("a session is used again after its end")
	}
}
