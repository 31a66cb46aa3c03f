package relay

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
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
	_, err := conn.Exec(b.t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput', true)", slot+"_"+b.db.Name)
	mend(b.t, err)
	insert()
	rows, err := conn.Query(b.t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', $2, 'binary', 'true')`, slot+"_"+b.db.Name, publication)
	mend(b.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	mend(b.t, err)
	return messages
}

// The stream and the table give the same rows.
func TestStreamedRowsAreTheTables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f := b.tableFeed(snapshot.Snapshot{Xmax: 3})
	messages := b.streamed(b.db.Conn(t), func() {
		_, err := b.app.Exec(t.Context(), strangeRows)
		mend(t, err)
		b.exec("BEGIN; SAVEPOINT s; SELECT postrider.enqueue('a', '1'); ROLLBACK TO s; SELECT postrider.enqueue('a', '2'); COMMIT")
		b.exec("BEGIN; SELECT postrider.enqueue('a', '3'); ROLLBACK")
		b.exec("UPDATE postrider.outbox SET topic = 'b' WHERE false; TRUNCATE postrider.outbox_13")
	})
	_, want, _, err := readWindow(t.Context(), f, f.closed)
	mend(t, err)

	var got []*message.Row
	var kinds []byte
	p := newPgoutput(message.NewDecoder("source"))
	for _, m := range messages {
		copied := bytes.Clone(m)
		kind, r, err := p.parse(copied, true)
		mend(t, err)
		clear(copied) // the connection uses its buffer again
		kinds = append(kinds, kind)
		if r != nil {
			got = append(got, r)
		}
	}
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

// What is not kept is not decoded, and what cannot be decoded is an error.
func TestStreamRefusesWhatItDoesNotUnderstand(t *testing.T) {
	relation, insert := seedMessages(t)
	p := newPgoutput(message.NewDecoder("source"))
	if _, _, err := p.parse(insert, true); err == nil || !strings.Contains(err.Error(), "was not announced") {
		t.Errorf("an unknown relation: %v", err)
	}
	mustParse := func(data []byte, keep bool) *message.Row {
		t.Helper()
		_, r, err := p.parse(data, keep)
		mend(t, err)
		return r
	}
	mustParse(relation, true)
	if r := mustParse(insert, false); r != nil {
		t.Errorf("a row that was not to be kept: %+v", r)
	}
	if r := mustParse(insert, true); r == nil || r.Topic != "orders.created" || r.Key != "k" || string(r.Payload) != `{"n": 1}` {
		t.Errorf("row %+v", r)
	}
	for i := range insert {
		if _, r, err := p.parse(insert[:i], true); err == nil || r != nil {
			t.Errorf("a message cut to %d bytes: %+v, %v", i, r, err)
		}
	}
	text := bytes.Replace(insert, []byte("b\x00\x00\x00\x08"), []byte("t\x00\x00\x00\x08"), 1)
	if _, _, err := p.parse(text, true); err == nil || !strings.Contains(err.Error(), "only NULL and binary are expected") {
		t.Errorf("a column in text format: %v", err)
	}
	negative := bytes.Replace(insert, []byte("b\x00\x00\x00\x08"), []byte("b\xff\xff\xff\xf8"), 1)
	if _, _, err := p.parse(negative, true); err == nil || !strings.Contains(err.Error(), "ends early") {
		t.Errorf("a column of negative length: %v", err)
	}
	if _, _, err := p.parse(bytes.Replace(relation, []byte("topic"), []byte("tonic"), 1), true); err == nil ||
		!strings.Contains(err.Error(), "8 of the outbox's 9 columns") {
		t.Errorf("a relation without a topic: %v", err)
	}
}

// seedMessages are a relation and an insertion as PostgreSQL 15 sent them.
func seedMessages(t testing.TB) (relation, insert []byte) {
	relation, err := hex.DecodeString(relationHex)
	if err != nil {
		t.Fatal(err)
	}
	insert, err = hex.DecodeString(insertHex)
	if err != nil {
		t.Fatal(err)
	}
	return relation, insert
}

// FuzzStream wants an error or a row of whatever arrives after an announced relation, never a panic.
func FuzzStream(f *testing.F) {
	relation, insert := seedMessages(f)
	f.Add(insert, relation)
	f.Add([]byte("B"), []byte{})
	f.Add(append(relation[:len(relation):len(relation)], 0xff), insert[:20])
	f.Fuzz(func(t *testing.T, first, second []byte) {
		p := newPgoutput(message.NewDecoder("source"))
		if _, _, err := p.parse(relation, true); err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{first, second, insert} {
			before := bytes.Clone(data)
			kind, r, err := p.parse(data, true)
			if err != nil && r != nil || r != nil && kind != msgInsert {
				t.Errorf("kind %q, row %+v, error %v", kind, r, err)
			}
			if !bytes.Equal(before, data) {
				t.Error("the message was changed")
			}
		}
	})
}

const (
	relationHex = "5200004016706f73747269646572006f7574626f780064000a0169640000000014ffffffff0078696400000013cdffffffff00637265617465645f617400000004a0ffffffff0064656c697665725f617400000004a0ffffffff017365676d656e740000000015ffffffff00746f7069630000000019ffffffff006b65790000000019ffffffff007061796c6f61640000000edaffffffff00626f64790000000011ffffffff00686561646572730000000edaffffffff"
	insertHex   = "49000040164e000a62000000080000000000000001620000000800000000000002e16200000008000303e32c6326616e62000000020001620000000e6f72646572732e6372656174656462000000016b6200000009017b226e223a20317d6e6e"
)
