package outbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
)

// Await waits until the message is settled for the subscription, tells what came of it, and waits for nothing that will not come.
func TestAwait(t *testing.T) {
	db, appURL := newDB(t)
	reader := db.Role(t, "reader", "")
	db.Exec(t, migrations.ReaderGrants(reader))
	db.Exec(t, `SELECT postrider.subscribe('work', '{w.>}', 'sql:', '{}', 'now')`)
	app, conn, worker := connect(t, appURL), connect(t, db.RoleURL(reader)), db.Conn(t)
	tx := begin(t, app)
	id, err := outbox.Enqueue(t.Context(), tx, outbox.Message{Topic: "w.a", Payload: 1})
	if err == nil {
		err = tx.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := outbox.Await(short, conn, id, "work"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a message that nobody has taken: %v", err)
	}
	conn = connect(t, db.RoleURL(reader)) // pgx closes one whose query was cut off
	type answer struct {
		outbox.Settled
		err error
	}
	came := make(chan answer, 1)
	go func() {
		s, err := outbox.Await(t.Context(), conn, id, "work")
		came <- answer{s, err}
	}()
	if _, err := worker.Exec(t.Context(), `SELECT postrider.keep_result('work', id, created_at, '{"sum": 3}') FROM postrider.take('work')`); err != nil {
		t.Fatal(err)
	}
	if a := <-came; a.err != nil || a.Status != "delivered" || string(a.Result) != `{"sum": 3}` {
		t.Errorf("%+v", a)
	}
	for subscription, message := range map[string]int64{"work": id + 1, "other": id} {
		_, err := outbox.Await(t.Context(), conn, message, subscription)
		if !errors.Is(err, outbox.ErrUnknown) || !strings.Contains(err.Error(), subscription) {
			t.Errorf("of message %d of %s: %v", message, subscription, err)
		}
	}
}
