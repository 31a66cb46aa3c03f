package migrations

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// What a snapshot does not see may have any id: that is why windows are found by transaction, with an index of its own. These are the ways in
// which a row that is new to a snapshot comes to have an id that the sequence had given out before.
func TestIDsDoNotBoundWindows(t *testing.T) {
	for name, strange := range map[string]func(t *testing.T, writer, other *pgx.Conn, mark func()) int64{
		"a transaction that runs at the snapshot": func(t *testing.T, writer, _ *pgx.Conn, mark func()) int64 {
			tx := begin(t, writer)
			id := enqueue(t, tx, "a")
			mark()
			commit(t, tx)
			return id
		},
		"a sequence that sessions draw several of": func(t *testing.T, writer, other *pgx.Conn, mark func()) int64 {
			exec(t, other, `ALTER SEQUENCE postrider.outbox_id_seq CACHE 10`)
			enqueue(t, writer, "a")
			enqueue(t, other, "a")
			mark()
			return enqueue(t, writer, "a")
		},
		"a sequence that is set back": func(t *testing.T, writer, other *pgx.Conn, mark func()) int64 {
			enqueue(t, writer, "a")
			mark()
			exec(t, other, `TRUNCATE postrider.outbox RESTART IDENTITY`)
			return enqueue(t, writer, "a")
		},
		"an id that a copy brings along": func(t *testing.T, writer, other *pgx.Conn, mark func()) int64 {
			enqueue(t, other, "a")
			mark()
			return one[int64](t, writer, `INSERT INTO postrider.outbox (id, topic, payload) VALUES (0, 'a', '1') RETURNING id`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			reader := db.Conn(t)
			var last int64
			var base string
			id := strange(t, db.Conn(t), db.Conn(t), func() {
				last = one[int64](t, reader, `SELECT last_value FROM postrider.outbox_id_seq`)
				base = one[string](t, reader, `SELECT pg_current_snapshot()::text`)
			})
			if id > last {
				t.Errorf("it has the id %d, and the sequence had come to %d: want one that was passed", id, last)
			}
			const window = `SELECT coalesce(array_agg(id), '{}') FROM postrider.outbox WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
				OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))`
			if ids := one[[]int64](t, reader, window, base); len(ids) != 1 || ids[0] != id {
				t.Errorf("the window of the snapshot %s has %v, want [%d]", base, ids, id)
			}
		})
	}
}
