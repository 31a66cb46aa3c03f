package outbox_test

import (
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox"
)

// uniqueWay is one of the ways to enqueue with an answer for each message.
type uniqueWay struct {
	name    string
	enqueue func(messages []outbox.Message) ([]outbox.Result, error)
}

// uniqueWays commit what they enqueue, also after an error.
func uniqueWays(t *testing.T, url string) (list []uniqueWay) {
	one := func(enqueue func(outbox.Message) (outbox.Result, error)) func([]outbox.Message) ([]outbox.Result, error) {
		return func(messages []outbox.Message) (results []outbox.Result, err error) {
			for _, m := range messages {
				r, err := enqueue(m)
				if err != nil {
					return nil, err
				}
				results = append(results, r)
			}
			return results, nil
		}
	}
	pgxIn := func(f func(pgx.Tx, []outbox.Message) ([]outbox.Result, error)) func([]outbox.Message) ([]outbox.Result, error) {
		conn := connect(t, url)
		return func(m []outbox.Message) ([]outbox.Result, error) {
			tx := begin(t, conn)
			r, err := f(tx, m)
			return r, errors.Join(err, tx.Commit(t.Context()))
		}
	}
	sqlIn := func(f func(*sql.Tx, []outbox.Message) ([]outbox.Result, error)) func([]outbox.Message) ([]outbox.Result, error) {
		db, err := sql.Open("pgx", url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return func(m []outbox.Message) ([]outbox.Result, error) {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				return nil, err
			}
			r, err := f(tx, m)
			return r, errors.Join(err, tx.Commit())
		}
	}
	return []uniqueWay{
		{"pgx one", pgxIn(func(tx pgx.Tx, m []outbox.Message) ([]outbox.Result, error) {
			return one(func(m outbox.Message) (outbox.Result, error) { return outbox.EnqueueUnique(t.Context(), tx, m) })(m)
		})},
		{"pgx batch", pgxIn(func(tx pgx.Tx, m []outbox.Message) ([]outbox.Result, error) {
			return outbox.EnqueueUniqueBatch(t.Context(), tx, m)
		})},
		{"sql one", sqlIn(func(tx *sql.Tx, m []outbox.Message) ([]outbox.Result, error) {
			return one(func(m outbox.Message) (outbox.Result, error) { return outbox.EnqueueUniqueSQL(t.Context(), tx, m) })(m)
		})},
		{"sql batch", sqlIn(func(tx *sql.Tx, m []outbox.Message) ([]outbox.Result, error) {
			return outbox.EnqueueUniqueBatchSQL(t.Context(), tx, m)
		})},
	}
}

// Each way answers alike, with whatever a message carries, and an application's role is enough.
func TestUniqueByEveryWay(t *testing.T) {
	db, url := newDB(t)
	db.Exec(t, `SELECT postrider.subscribe('billing', '{a.>}', 'sql:')`)
	for _, w := range uniqueWays(t, url) {
		t.Run(w.name, func(t *testing.T) {
			before := len(messages(t, db))
			in := func(key string) string { return w.name + nasty + key }
			given := []outbox.Message{
				{Topic: "a.b", Payload: nasty, Key: nasty, Headers: map[string]string{"h": nasty}, UniqueKey: in("z"), UniqueScope: "1h"},
				{Topic: "a.b", Body: []byte{0, 0xff, '"'}, DeliverAt: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), Priority: 4, UniqueKey: in("a"), UniqueScope: "pending:billing"},
				{Topic: "a.b", Payload: 3},
				{Topic: "a.b", Payload: 4, UniqueKey: in("z"), UniqueScope: "2 days"},
				{Topic: "a.b", Payload: 5, UniqueKey: in("z"), UniqueScope: "pending:billing"},
			}
			got, err := w.enqueue(given)
			if err != nil {
				t.Fatal(err)
			}
			first := got[0].ID
			want := []outbox.Result{{ID: first}, {ID: first + 1}, {ID: first + 2}, {ID: first, Duplicate: true}, {ID: first + 3}}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			rows := messages(t, db)[before:]
			if len(rows) != 4 || rows[0].Key != nasty || rows[0].Headers == "-" || rows[1].Body != "00ff22" || rows[1].Priority != 4 || rows[1].DeliverAtUTC[:4] != "2031" {
				t.Errorf("stored: %+v", rows)
			}
			again, err := w.enqueue(given[:2])
			if want := []outbox.Result{{ID: first, Duplicate: true}, {ID: first + 1, Duplicate: true}}; err != nil || !reflect.DeepEqual(again, want) {
				t.Errorf("again: got %+v, %v, want %+v", again, err, want)
			}
		})
	}
	var tx pgx.Tx = begin(t, connect(t, url))
	m := outbox.Message{Topic: "a.b", Payload: 1, UniqueKey: "ids", UniqueScope: "1h"}
	id, err := outbox.Enqueue(t.Context(), tx, m)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := outbox.EnqueueBatch(t.Context(), tx, []outbox.Message{m, {Topic: "a", Payload: 1}}); err != nil || len(ids) != 2 || ids[0] != id || ids[1] <= id {
		t.Errorf("got ids %v, %v after %d", ids, err, id)
	}
}

// What is wrong with a unique key is said before the database sees it, but for what only the database knows.
func TestInvalidUniqueKeys(t *testing.T) {
	_, url := newDB(t)
	for _, w := range uniqueWays(t, url) {
		for _, c := range []struct {
			key, scope, field, want string
		}{
			{"", "1h", "UniqueKey", "UniqueKey is empty: give it one, or no UniqueScope"},
			{"k", "", "UniqueScope", "UniqueScope is empty: give pending:SUBSCRIPTION or a time such as 1h, or no UniqueKey"},
			{strings.Repeat("x", 1001), "1h", "UniqueKey", "has 1001 bytes: at most 1000 are allowed"},
			{"a\x00", "1h", "UniqueKey", `UniqueKey "a\x00" holds a zero byte`},
			{"k", "\xff", "UniqueScope", `UniqueScope "\xff" is not valid UTF-8`},
			{"k", "soon", "", `unique_scope "soon": must be pending:SUBSCRIPTION, or a time of at most a year such as 1h or 2 days`},
			{"k", "pending:none", "", `unique_scope "pending:none": there is no subscription "none"`},
			{"", "", "UniqueReplace", "UniqueReplace without UniqueKey: give it one, and the UniqueScope pending:SUBSCRIPTION"},
			{"k", "2h", "", `unique_replace true with unique_scope "2h": must be pending:SUBSCRIPTION`},
		} {
			_, err := w.enqueue([]outbox.Message{{Topic: "a", Payload: 1, UniqueKey: c.key, UniqueScope: c.scope, UniqueReplace: strings.Contains(c.want, "eplace")}})
			invalid, ok := errors.AsType[*outbox.InvalidError](err)
			if err == nil || !strings.Contains(err.Error(), c.want) || ok != (c.field != "") || ok && invalid.Field != c.field {
				t.Errorf("%s, key %.10q, scope %q: got %v", w.name, c.key, c.scope, err)
			}
		}
	}
}

// The latest message takes the key, by each way; what asks for no such thing says nothing of it to the database, which may be older.
func TestUniqueReplaceByEveryWay(t *testing.T) {
	db, url := newDB(t)
	db.Exec(t, `SELECT postrider.subscribe('billing', '{a.>}', 'sql:')`)
	for _, w := range uniqueWays(t, url) {
		t.Run(w.name, func(t *testing.T) {
			m := outbox.Message{Topic: "a.b", Payload: 1, UniqueKey: w.name, UniqueScope: "pending:billing"}
			latest := m
			latest.UniqueReplace = true
			first, err := w.enqueue([]outbox.Message{m})
			if err != nil {
				t.Fatal(err)
			}
			second, err := w.enqueue([]outbox.Message{latest})
			if err != nil || second[0].Duplicate || second[0].ID <= first[0].ID {
				t.Fatalf("got %+v, %v after %+v", second, err, first)
			}
			got, err := w.enqueue([]outbox.Message{m, {Topic: "a.b", Payload: 2}})
			if err != nil || !got[0].Duplicate || got[0].ID != second[0].ID || got[1].Duplicate {
				t.Errorf("got %+v, %v, want a duplicate of %+v", got, err, second)
			}
			var status string
			if err := db.Conn(t).QueryRow(t.Context(), `SELECT status FROM postrider.deliveries WHERE id = $1`, first[0].ID).Scan(&status); err != nil || status != "cancelled" {
				t.Errorf("the first one is %s, %v", status, err)
			}
		})
	}
	db.Exec(t, `DROP FUNCTION postrider.enqueue_unique, postrider.enqueue_many;
		CREATE FUNCTION postrider.enqueue_many(topic text[], payload jsonb[], unique_key text[], unique_scope text[]) RETURNS TABLE (id bigint, duplicate boolean) LANGUAGE sql AS 'VALUES (7, true)'`)
	for _, w := range uniqueWays(t, url) {
		if got, err := w.enqueue([]outbox.Message{{Topic: "a.b", Payload: 1, UniqueKey: "k", UniqueScope: "1h"}}); err != nil || got[0].ID != 7 {
			t.Errorf("%s, on an older schema: %+v, %v", w.name, got, err)
		}
	}
}
