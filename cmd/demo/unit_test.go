package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestLedgerKnowsWhatRolledBack(t *testing.T) {
	db := pgtest.New(t)
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	pool, book, ctx := db.Pool(t), newLedger(), t.Context()
	put := func(u *unit, topic string) {
		if err := u.enqueue(ctx, outbox.Message{Topic: topic, Payload: 1}); err != nil {
			t.Fatal(err)
		}
	}
	work := func(result error) func(*unit) error {
		return func(u *unit) error {
			put(u, "first")
			if err := u.attempt(ctx, func(u *unit) error { put(u, "kept"); return nil }); err != nil {
				return err
			}
			if err := u.attempt(ctx, func(u *unit) error { put(u, "undone"); return errRollBack }); err != nil {
				return err
			}
			put(u, "last")
			return result
		}
	}
	for _, result := range []error{nil, errRollBack} {
		if err := transact(ctx, pool, book, work(result)); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	if err := transact(ctx, pool, book, work(broken)); !errors.Is(err, broken) {
		t.Errorf("got error %v", err)
	}
	rows, err := pool.Query(ctx, "SELECT id FROM postrider.outbox ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if got := slices.Sorted(maps.Keys(book.committed)); err != nil || !slices.Equal(got, there) || len(got) != 3 {
		t.Errorf("committed: %v, but the table has %v, %v", got, there, err)
	}
	// Ids are a sequence's: 1 to 4 of the first transaction, 5 to 8 of the second.
	if got := slices.Sorted(maps.Keys(book.rolledBack)); !slices.Equal(got, []int64{3, 5, 6, 7, 8}) {
		t.Errorf("rolled back: %v, want 3 and 5 to 8", got)
	}
	for id, e := range book.committed {
		if e.due.IsZero() || e.scheduled {
			t.Errorf("message %d is due %v, scheduled %v", id, e.due, e.scheduled)
		}
	}
}

func TestOptions(t *testing.T) {
	parse := func(follow, keep string) (options, error) {
		return parseOptions(func(name string) string { return map[string]string{"FOLLOW": follow, "KEEP": keep}[name] })
	}
	if o, err := parse("", ""); err != nil || o != (options{follow: "auto"}) {
		t.Errorf("nothing set: %+v, %v", o, err)
	}
	if o, err := parse("timer", "1"); err != nil || o != (options{follow: "timer", keep: true}) {
		t.Errorf("both set: %+v, %v", o, err)
	}
	for _, bad := range [][2]string{{"wal", ""}, {"", "yes"}} {
		if _, err := parse(bad[0], bad[1]); err == nil || !strings.Contains(err.Error(), bad[0]+bad[1]+": must be") {
			t.Errorf("%q: got error %v", bad, err)
		}
	}
}
