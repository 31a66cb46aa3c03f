package outbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox"
)

const nasty = `a"b\c{},NULL 'ü😀' $1` + "\n\t"

// Each message arrives as it was given, by each way.
func TestEveryWay(t *testing.T) {
	given := []outbox.Message{
		{Topic: "a", Payload: map[string]any{"n": 1, "s": nasty}, Key: nasty, Headers: map[string]string{"h": nasty, nasty: ""}},
		{Topic: "a.b", Payload: json.RawMessage(" {\"x\" : [1, 2.50, null, \"\\u00e4\\ud83d\\ude00\"] } ")},
		{Topic: "a.b.c", Payload: "NULL", Key: "NULL"},
		{Topic: "a", Payload: json.RawMessage("null"), Headers: map[string]string{}},
		{Topic: `"\{},`, Body: []byte{0, 0xff, '"', '\\', ','}},
		{Topic: "a", Body: []byte{}},
		{Topic: "a", Payload: 7, DeliverAt: time.Date(2031, 2, 3, 4, 5, 6, 7_800_000, time.FixedZone("", 3600))},
		{Topic: "a", Payload: false, DeliverAt: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)},
		{Topic: "a", Payload: []int(nil), DeliverAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{Topic: "a", Payload: 1, Priority: 1},
		{Topic: "a", Body: []byte("x"), Priority: 4},
	}
	want := []stored{
		{0, "a", nasty, `{"n": 1, "s": "a\"b\\c{},NULL 'ü😀' $1\n\t"}`, "-", `{"h": "a\"b\\c{},NULL 'ü😀' $1\n\t", "a\"b\\c{},NULL 'ü😀' $1\n\t": ""}`, "-", 2},
		{0, "a.b", "-", `{"x": [1, 2.50, null, "ä😀"]}`, "-", "-", "-", 2},
		{0, "a.b.c", "NULL", `"NULL"`, "-", "-", "-", 2},
		{0, "a", "-", "null", "-", "-", "-", 2},
		{0, `"\{},`, "-", "-", "00ff225c2c", "-", "-", 2},
		{0, "a", "-", "-", "", "-", "-", 2},
		{0, "a", "-", "7", "-", "-", "2031-02-03T03:05:06.007800", 2},
		{0, "a", "-", "false", "-", "-", "0001-01-01T00:00:00.000001", 2},
		{0, "a", "-", "null", "-", "-", "9999-12-31T23:59:59.000000", 2},
		{0, "a", "-", "1", "-", "-", "-", 1},
		{0, "a", "-", "-", "78", "-", "-", 4},
	}
	db, url := newDB(t)
	for _, w := range ways(t, url) {
		t.Run(w.name, func(t *testing.T) {
			before := len(messages(t, db))
			ids, err := w.enqueue(t, given)
			if err != nil {
				t.Fatal(err)
			}
			got := messages(t, db)[before:]
			var stored []int64
			for i := range got {
				stored = append(stored, got[i].ID)
				got[i].ID = 0
			}
			if !slices.Equal(ids, stored) {
				t.Errorf("got ids %v, the table has %v", ids, stored)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// A message that the database would refuse is refused before, and the transaction goes on.
func TestBadMessages(t *testing.T) {
	cases := []struct {
		m           outbox.Message
		field, want string
	}{
		{outbox.Message{Payload: 1}, "Topic", "topic is empty"},
		{outbox.Message{Topic: "orders created", Payload: 1}, "Topic", `topic "orders created" holds " " at byte 7: a topic is`},
		{outbox.Message{Topic: "a.*", Payload: 1}, "Topic", `topic "a.*" holds "*"`},
		{outbox.Message{Topic: "a"}, "", "message with topic a: neither Payload nor Body is given"},
		{outbox.Message{Topic: "a", Payload: 1, Body: []byte("x")}, "", "message with topic a: both Payload and Body are given"},
		{outbox.Message{Topic: "a", Payload: []byte(`{}`)}, "Payload", "Payload is a []byte"},
		{outbox.Message{Topic: "a", Payload: json.RawMessage(`{"a":}`)}, "Payload", "Payload is not JSON: invalid character '}'"},
		{outbox.Message{Topic: "a", Payload: json.RawMessage{}}, "Payload", "Payload is empty"},
		{outbox.Message{Topic: "a", Payload: json.RawMessage("\"\xff\"")}, "Payload", "Payload is not valid UTF-8"},
		{outbox.Message{Topic: "a", Payload: "a\x00b"}, "Payload", `Payload holds the escape \u0000`},
		{outbox.Message{Topic: "a", Payload: json.RawMessage(`"\\\ud800x\udc00"`)}, "Payload", `Payload holds the escape \ud800, half a surrogate pair`},
		{outbox.Message{Topic: "a", Payload: json.RawMessage(`["1e5", 1e131073]`)}, "Payload", "Payload holds the number 1e131073, which is out of the range"},
		{outbox.Message{Topic: "a", Payload: json.RawMessage("0." + strings.Repeat("1", 20_000))}, "Payload", "Payload holds the number 0.1111"},
		{outbox.Message{Topic: "a", Payload: json.RawMessage("[1e-16384]")}, "Payload", "Payload holds the number 1e-16384"},
		{outbox.Message{Topic: "a", Payload: math.NaN()}, "Payload", "Payload cannot be marshalled: json: unsupported value: NaN"},
		{outbox.Message{Topic: "a", Payload: make(chan int)}, "Payload", "Payload cannot be marshalled: json: unsupported type"},
		{outbox.Message{Topic: "a", Payload: 1, Key: "a\x00"}, "Key", `Key "a\x00" holds a zero byte`},
		{outbox.Message{Topic: "a", Payload: 1, Key: "\xff"}, "Key", `Key "\xff" is not valid UTF-8`},
		{outbox.Message{Topic: "a", Payload: 1, Headers: map[string]string{"": "x"}}, "Headers", `a header with value "x" has an empty name`},
		{outbox.Message{Topic: "a", Payload: 1, Headers: map[string]string{"h": "\x00"}}, "Headers", `header "h" with value "\x00" holds a zero byte`},
		{outbox.Message{Topic: "a", Payload: 1, Headers: map[string]string{"h\xff": "x"}}, "Headers", `header "h\xff" with value "x" is not valid UTF-8`},
		{outbox.Message{Topic: "a", Payload: 1, DeliverAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "DeliverAt", "DeliverAt 10000-01-01 00:00:00 +0000 UTC is out of range: give a time in the years 1 to 9999"},
		{outbox.Message{Topic: "a", Payload: 1, Priority: 7}, "Priority", "message with topic a: Priority 7: must be from 1 (first) to 4 (last), or 0 for the default, 2"},
		{outbox.Message{Topic: "a", Payload: 1, Priority: -1}, "Priority", "Priority -1: must be from 1"},
		{outbox.Message{Topic: "a", Body: make([]byte, 70<<20)}, "", "message with topic a: it has 146800705 bytes: at most"},
	}
	db, url := newDB(t)
	for _, w := range ways(t, url)[:4] {
		for _, c := range cases {
			ids, err := w.enqueue(t, []outbox.Message{c.m, {Topic: "good", Payload: 1}})
			if err == nil || !strings.HasPrefix(err.Error(), "enqueue") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got ids %v, error %v, want %s", w.name, ids, err, c.want)
			}
			invalid, ok := errors.AsType[*outbox.InvalidError](err)
			if !ok || invalid.Field != c.field || invalid.Topic != c.m.Topic || invalid.Index != 0 ||
				invalid.Want == "" || !strings.HasSuffix(err.Error(), invalid.Want) || !strings.Contains(err.Error(), invalid.Problem) {
				t.Errorf("%s: got %#v for %v", w.name, invalid, err)
			}
		}
		_, err := w.enqueue(t, []outbox.Message{{Topic: "good", Payload: 1}, {Topic: "b d", Payload: 1}})
		if strings.Contains(w.name, "batch") && (err == nil || !strings.HasPrefix(err.Error(), `enqueue batch: at index 1: topic "b d"`)) {
			t.Errorf("%s: got error %v", w.name, err)
		}
		if invalid, ok := errors.AsType[*outbox.InvalidError](err); !ok || strings.Contains(w.name, "batch") && invalid.Index != 1 {
			t.Errorf("%s: got %#v", w.name, invalid)
		}
	}
	for _, m := range messages(t, db) {
		if m.Topic != "good" {
			t.Errorf("%+v was stored", m)
		}
	}
	if n := len(messages(t, db)); n != 2 { // one by one, the good one came first
		t.Errorf("%d messages were stored, want 2", n)
	}
}

// badPayload cannot be marshalled, for a reason of its own.
type badPayload struct{ why error }

func (b badPayload) MarshalJSON() ([]byte, error) { return nil, b.why }

// The application finds its own error in that of the message.
func TestCauseOfInvalidPayload(t *testing.T) {
	_, url := newDB(t)
	why := errors.New("the order has no customer")
	tx := begin(t, connect(t, url))
	if _, err := outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "a", Payload: badPayload{why}}); !errors.Is(err, why) {
		t.Errorf("got %v, want %v in it", err, why)
	}
}

// Ids are returned in the order of the messages and ascend, over several statements.
func TestLargeBatch(t *testing.T) {
	db, url := newDB(t)
	batch := make([]outbox.Message, 25_000)
	for i := range batch {
		batch[i] = outbox.Message{Topic: "t", Key: fmt.Sprint(i), Payload: i}
	}
	batch[3].Body, batch[3].Payload = bytes.Repeat([]byte{7}, 20<<20), nil
	if _, err := db.Conn(t).Exec(t.Context(), `SELECT postrider.set_max_message($1)`, 32<<20); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	tx := begin(t, conn)
	ids, err := outbox.EnqueueBatch(t.Context(), tx, batch)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(ids) != len(batch) || !slices.IsSorted(ids) {
		t.Fatalf("got %d ids, ascending: %t", len(ids), slices.IsSorted(ids))
	}
	rows, err := db.Conn(t).Query(t.Context(), `SELECT id FROM postrider.outbox ORDER BY key::int`)
	if err != nil {
		t.Fatal(err)
	}
	if byKey, err := pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil || !slices.Equal(byKey, ids) {
		t.Errorf("the ids in the table are not those returned (%v)", err)
	}
	if ids, err := outbox.EnqueueBatch(t.Context(), begin(t, conn), nil); len(ids) != 0 || err != nil {
		t.Errorf("an empty batch returned %v, %v", ids, err)
	}
}

// What the database itself refuses is wrapped.
func TestDatabaseErrors(t *testing.T) {
	db, _ := newDB(t)
	conn := connect(t, db.RoleURL(db.Role(t, "stranger", "")))
	for name, f := range map[string]func(tx pgx.Tx) error{
		"enqueue: ERROR: permission denied": func(tx pgx.Tx) error {
			_, err := outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "a", Payload: 1})
			return err
		},
		"enqueue batch: ERROR: permission denied": func(tx pgx.Tx) error {
			_, err := outbox.EnqueueBatch(t.Context(), tx, []outbox.Message{{Topic: "a", Payload: 1}})
			return err
		},
	} {
		tx := begin(t, conn)
		err := f(tx)
		if err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
		if _, ok := errors.AsType[*outbox.InvalidError](err); ok {
			t.Errorf("%v is told from an error of the database no longer", err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkEnqueueBatch(b *testing.B) {
	conn, err := pgx.Connect(b.Context(), newDatabase())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	batch := make([]outbox.Message, 1000)
	for i := range batch {
		batch[i] = outbox.Message{Topic: "orders.created", Key: fmt.Sprint(i), Payload: json.RawMessage(`{"order":` + fmt.Sprint(i) + `,"text":"` + strings.Repeat("x", 150) + `"}`)}
	}
	for b.Loop() {
		if err := pgx.BeginFunc(b.Context(), conn, func(tx pgx.Tx) error {
			_, err := outbox.EnqueueBatch(b.Context(), tx, batch)
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "messages/s")
}
