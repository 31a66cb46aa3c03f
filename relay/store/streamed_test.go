package store

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/wal"
	"github.com/postrider/postrider/relay/wal/waltest"
)

// strangeRows holds every kind of column that a row may have.
const strangeRows = `INSERT INTO postrider.outbox (topic, key, payload, body, headers, deliver_at) VALUES
	('orders.created', 'k', '{"n": [1, 2.50, null], "s": "\u00e9\u4e16"}', NULL, '{"traceparent": "00-1", "x": ""}', NULL),
	('orders.created', NULL, 'null', NULL, NULL, '2031-01-02 03:04:05.678901+00'),
	('a', '', '""', NULL, '{}', 'infinity'),
	('a.b', 'ключ', NULL, '\x', NULL, '-infinity'),
	('a.b', E'\t\n ', NULL, '\x00ff0001', '{"a": "b"}', '1999-12-31 23:59:59+00'),
	('x', NULL, to_jsonb(repeat('long ', 3000)), NULL, NULL, '294276-12-31 23:59:59.999999+00'),
	('x', NULL, NULL, decode(repeat('00ff', 9000), 'hex'), NULL, '4713-01-01 00:00:00+00 BC')`

// streamed returns the output plugin's messages for what insert does, as the stream would carry them.
func (b *bench) streamed(conn *pgx.Conn, insert func()) [][]byte {
	b.t.Helper()
	const slot = "postrider_pgoutput_test"
	_, err := conn.Exec(b.t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput', true)", slot+"_"+b.DB.Name)
	mend(b.t, err)
	insert()
	rows, err := conn.Query(b.t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', $2, 'binary', 'true')`, slot+"_"+b.DB.Name, wal.Publication)
	mend(b.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	mend(b.t, err)
	return messages
}

// The stream and the table give the same rows.
func TestStreamedRowsAreTheTables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	o := b.outboxReader()
	messages := b.streamed(b.DB.Conn(t), func() {
		_, err := b.App.Exec(t.Context(), strangeRows)
		mend(t, err)
		b.Exec("BEGIN; SAVEPOINT s; SELECT postrider.enqueue('a', '1'); ROLLBACK TO s; SELECT postrider.enqueue('a', '2'); COMMIT")
		b.Exec("BEGIN; SELECT postrider.enqueue('a', '3'); ROLLBACK")
		b.Exec("UPDATE postrider.outbox SET topic = 'b' WHERE false")
		b.Exec("DO $$ BEGIN EXECUTE format('TRUNCATE postrider.outbox_%s', (postrider.current_segment() + 8) % 16); END $$") // where none of them is
	})
	_, want, _, err := readWindow(t.Context(), o, snapshot.Snapshot{Xmax: 3})
	mend(t, err)

	held := wal.NewBacklog(1 << 30)
	held.Connect(func() {})
	held.Restart()
	stream := wal.NewAssembler(message.NewDecoder("source"), held)
	var kinds []byte
	for _, m := range messages {
		frame := waltest.Frame(0, m)
		mend(t, stream.Take(frame))
		clear(frame) // the connection uses its buffer again
		kinds = append(kinds, m[0])
	}
	got, _ := held.Take(snapshot.Snapshot{Xmax: math.MaxUint64}, nil)
	if len(want) != 8 || len(got) != len(want) {
		t.Fatalf("%d rows streamed (%s), %d in the table, want 8", len(got), kinds, len(want))
	}
	// Descriptions of the table (R) and of its domains (Y) come when the server sees fit.
	if inserts := strings.NewReplacer("R", "", "Y", "").Replace(string(kinds)); !strings.HasPrefix(inserts, "BIIIIIIICBIC") {
		t.Errorf("messages %s", kinds)
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("streamed %+v\ntable    %+v", got[i], want[i])
		}
	}
	checkStrange(t, got)
}

func checkStrange(t *testing.T, got []*message.Row) {
	t.Helper()
	far := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	for i, want := range []struct {
		key, payload, headers string
		json                  bool
		due                   time.Time
	}{
		{"k", `{"n": [1, 2.50, null], "s": "é世"}`, `{"x": "", "traceparent": "00-1"}`, true, time.Time{}},
		{"", "null", "", true, time.Date(2031, 1, 2, 3, 4, 5, 678_901_000, time.UTC)},
		{"", `""`, "{}", true, far},
		{"ключ", "", "", false, time.Time{}},
		{"\t\n ", "\x00\xff\x00\x01", `{"a": "b"}`, false, time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"", `"` + strings.Repeat("long ", 3000) + `"`, "", true, got[5].DeliverAt},
		{"", strings.Repeat("\x00\xff", 9000), "", false, got[6].DeliverAt},
	} {
		r := got[i]
		if r.Key != want.key || string(r.Payload) != want.payload || string(r.Headers) != want.headers || r.JSON != want.json || !r.DeliverAt.Equal(want.due) {
			t.Errorf("row %d: key %q, payload %.40q, headers %q, JSON %t, due %s", i, r.Key, r.Payload, r.Headers, r.JSON, r.DeliverAt)
		}
		if age := time.Since(r.CreatedAt); age < -time.Minute || age > time.Minute {
			t.Errorf("row %d was created %s ago", i, age)
		}
	}
	if got[5].DeliverAt.Before(far) || got[6].DeliverAt.After(time.Unix(0, 0)) {
		t.Errorf("the ends of the calendar have become %s and %s", got[5].DeliverAt, got[6].DeliverAt)
	}
}
