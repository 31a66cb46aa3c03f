package outboxtest_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/outbox/outboxtest"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// failing is a test that may fail: it keeps what it fails with.
type failing struct {
	testing.TB
	text string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure returns what do fails with, "" if it does not.
func failure(t *testing.T, do func(t testing.TB)) string {
	t.Helper()
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(f)
	}()
	<-done
	return f.text
}

func begin(t *testing.T, url string) pgx.Tx {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tx
}

func enqueue(t *testing.T, tx outbox.Tx, messages ...outbox.Message) []int64 {
	t.Helper()
	ids, err := outbox.EnqueueBatch(t.Context(), tx, messages)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

var (
	due     = time.Date(2031, 2, 3, 4, 5, 6, 7_000, time.FixedZone("", 3600))
	created = outbox.Message{Topic: "orders.created", Key: "order-17", Payload: map[string]any{"id": 17, "total": 9.5},
		Headers: map[string]string{"region": "eu", "tenant": "a"}}
	label  = outbox.Message{Topic: "labels.printed", Body: []byte("\x00%PDF"), Priority: 4}
	remind = outbox.Message{Topic: "orders.remind", Payload: json.RawMessage("null"), DeliverAt: due}
)

func TestRequireEnqueued(t *testing.T) {
	db := pgtest.New(t)
	tx := begin(t, db.URL())
	if all := outboxtest.All(t, tx); len(all) != 0 {
		t.Errorf("before anything was enqueued: %v", all)
	}
	ids := enqueue(t, tx, created, label, remind)
	want := []outboxtest.Enqueued{
		{ID: ids[0], Topic: "orders.created", Key: "order-17", Payload: json.RawMessage(`{"id": 17, "total": 9.5}`), Headers: created.Headers, Priority: 2},
		{ID: ids[1], Topic: "labels.printed", Body: label.Body, Priority: 4},
		{ID: ids[2], Topic: "orders.remind", Payload: json.RawMessage("null"), DeliverAt: due.UTC(), Priority: 2},
	}
	if all := outboxtest.All(t, tx); !reflect.DeepEqual(all, want) {
		t.Errorf("got  %v\nwant %v", all, want)
	}
	for name, c := range map[string]struct {
		pattern outbox.Message
		is      int // which of them; -1: none
	}{
		"all of the first":   {created, 0},
		"all of the second":  {label, 1},
		"all of the third":   {remind, 2},
		"a topic":            {outbox.Message{Topic: "orders.created"}, 0},
		"a wildcard":         {outbox.Message{Topic: "labels.*"}, 1},
		"another topic":      {outbox.Message{Topic: "orders.paid"}, -1},
		"a key":              {outbox.Message{Key: "order-17"}, 0},
		"another key":        {outbox.Message{Topic: "orders.created", Key: "order-18"}, -1},
		"a payload's value":  {outbox.Message{Payload: json.RawMessage(`{"total":9.50,"id":17}`)}, 0},
		"part of a payload":  {outbox.Message{Payload: json.RawMessage(`{"id":17}`)}, -1},
		"null":               {outbox.Message{Payload: json.RawMessage("null")}, 2},
		"a header":           {outbox.Message{Headers: map[string]string{"region": "eu"}}, 0},
		"a header's value":   {outbox.Message{Headers: map[string]string{"region": "us"}}, -1},
		"a header too many":  {outbox.Message{Headers: map[string]string{"region": "eu", "x": ""}}, -1},
		"an empty body":      {outbox.Message{Body: []byte{}}, -1},
		"a time":             {outbox.Message{DeliverAt: due.UTC()}, 2},
		"another time":       {outbox.Message{Topic: "orders.remind", DeliverAt: due.Add(time.Microsecond)}, -1},
		"a time, never said": {outbox.Message{Topic: "labels.printed", DeliverAt: due}, -1},
	} {
		refused := failure(t, func(t testing.TB) { outboxtest.RequireNotEnqueued(t, tx, c.pattern) })
		if c.is < 0 {
			if text := failure(t, func(t testing.TB) { outboxtest.RequireEnqueued(t, tx, c.pattern) }); !strings.Contains(text, "differs in") {
				t.Errorf("%s: fails with %q", name, text)
			}
			if refused != "" {
				t.Errorf("%s: is there: %s", name, refused)
			}
			continue
		}
		if got := outboxtest.RequireEnqueued(t, tx, c.pattern); !reflect.DeepEqual(got, want[c.is]) {
			t.Errorf("%s: got %v, want %v", name, got, want[c.is])
		}
		if !strings.Contains(refused, fmt.Sprintf("id %d {", ids[c.is])) {
			t.Errorf("%s: not refused: %q", name, refused)
		}
	}
}

// What fails a test tells all that one wants to know.
func TestFailureTexts(t *testing.T) {
	db := pgtest.New(t)
	tx := begin(t, db.URL())
	fails := func(do func(t testing.TB), want string) {
		t.Helper()
		if text := failure(t, do); text != want {
			t.Errorf("fails with\n%s\nwant\n%s", text, want)
		}
	}
	find := func(m outbox.Message) func(t testing.TB) {
		return func(t testing.TB) { outboxtest.RequireEnqueued(t, tx, m) }
	}
	fails(find(outbox.Message{Topic: "orders.>"}), `no message that was enqueued in this transaction matches {Topic: "orders.>"}
nothing was enqueued in it (in another one, or in a savepoint that was rolled back?)`)
	enqueue(t, tx, created, label, remind)
	fails(find(outbox.Message{Topic: "orders.created", Key: "order-18", Payload: map[string]int{"id": 18}}),
		`no message that was enqueued in this transaction matches {Topic: "orders.created", Key: "order-18", Payload: {"id":18}}
enqueued were
	id 1 {Topic: "orders.created", Key: "order-17", Payload: {"id": 17, "total": 9.5}, Headers: map["region":"eu" "tenant":"a"]}
		differs in Key, Payload
	id 2 {Topic: "labels.printed", Body: "\x00%PDF", Priority: 4}
		differs in Topic, Key, Payload
	id 3 {Topic: "orders.remind", Payload: null, DeliverAt: 2031-02-03T03:05:06.000007Z}
		differs in Topic, Key, Payload`)
	fails(find(outbox.Message{Topic: "orders.*"}),
		`2 messages that were enqueued in this transaction match {Topic: "orders.*"}: say more of the one that is meant, or ask All
these are
	id 1 {Topic: "orders.created", Key: "order-17", Payload: {"id": 17, "total": 9.5}, Headers: map["region":"eu" "tenant":"a"]}
	id 3 {Topic: "orders.remind", Payload: null, DeliverAt: 2031-02-03T03:05:06.000007Z}`)
	fails(func(t testing.TB) { outboxtest.RequireNotEnqueued(t, tx, outbox.Message{Topic: "labels.printed"}) },
		`1 of the messages that were enqueued in this transaction match {Topic: "labels.printed"}, which none may
these are
	id 2 {Topic: "labels.printed", Body: "\x00%PDF", Priority: 4}`)
	fails(find(outbox.Message{Topic: "orders created"}), `the message to look for: pattern "orders created" holds " " at byte 7: `+
		`a pattern is a topic in which '*' may stand for a token and '>' for the last ones, such as orders.* or orders.>`)
	fails(find(outbox.Message{Payload: []byte("{}")}), `the message to look for: the payload is a []byte: use json.RawMessage for JSON, Body for bytes`)
	var many []outbox.Message
	for range 40 {
		many = append(many, outbox.Message{Topic: "big", Payload: strings.Repeat("x", 1000)})
	}
	enqueue(t, tx, many...)
	text := failure(t, func(t testing.TB) { outboxtest.RequireNotEnqueued(t, tx, outbox.Message{}) })
	if !strings.Contains(text, "{}, the pattern of every message") || !strings.HasSuffix(text, "… and 23 more") || len(text) > 8000 {
		t.Errorf("fails with %s", text)
	}
}

// Only what is in this transaction counts: not what others enqueued or it took back.
func TestOnlyThisTransaction(t *testing.T) {
	db := pgtest.New(t)
	other := begin(t, db.URL())
	enqueue(t, other, created)
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, db.URL())
	outboxtest.RequireNotEnqueued(t, tx, outbox.Message{})
	undone, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	enqueue(t, undone, label)
	outboxtest.RequireEnqueued(t, tx, label)
	if err := undone.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	outboxtest.RequireNotEnqueued(t, tx, outbox.Message{})
	inner, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	enqueue(t, inner, remind)
	if err := inner.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	outboxtest.RequireEnqueued(t, tx, remind)
}

func TestSQL(t *testing.T) {
	db, err := sql.Open("pgx", pgtest.New(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}()
	outboxtest.RequireNotEnqueuedSQL(t, tx, outbox.Message{})
	for _, m := range []outbox.Message{created, label, remind} {
		id, err := outbox.EnqueueSQL(t.Context(), tx, m)
		if err != nil {
			t.Fatal(err)
		}
		if got := outboxtest.RequireEnqueuedSQL(t, tx, m); got.ID != id {
			t.Errorf("got %v, want id %d", got, id)
		}
	}
	if all := outboxtest.AllSQL(t, tx); len(all) != 3 || string(all[1].Body) != string(label.Body) || !all[2].DeliverAt.Equal(due) {
		t.Errorf("got %v", all)
	}
	if text := failure(t, func(t testing.TB) { outboxtest.RequireNotEnqueuedSQL(t, tx, created) }); !strings.Contains(text, "order-17") {
		t.Errorf("fails with %q", text)
	}
}

// A role that may only enqueue cannot be asked, and learns so.
func TestRoleThatMayNotRead(t *testing.T) {
	db := pgtest.New(t)
	role := db.Role(t, "app", "")
	db.Exec(t, migrations.AppGrants(role))
	tx := begin(t, db.RoleURL(role))
	enqueue(t, tx, created)
	text := failure(t, func(t testing.TB) { outboxtest.RequireEnqueued(t, tx, created) })
	if !strings.Contains(text, "the role must be one that may SELECT from postrider.outbox") || !strings.Contains(text, "42501") {
		t.Errorf("fails with %q", text)
	}
}
