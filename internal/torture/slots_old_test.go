package torture

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// oldTransaction is one that was there before everything else and has a transaction id.
type oldTransaction struct {
	conn *pgx.Conn
	*transaction
	xid string
}

// openOld opens a transaction that holds a message of each topic. It ends with the test at the latest.
func (w *world) openOld(t *testing.T) *oldTransaction {
	t.Helper()
	// As another role than the producers: their open transactions are waited for.
	conn, err := connect(t.Context(), w.db.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	old := &oldTransaction{conn: conn, transaction: w.apps.history.begin()}
	if _, err = conn.Exec(t.Context(), "BEGIN"); err == nil {
		_, err = conn.Exec(t.Context(), "INSERT INTO torture.tx (number) VALUES ($1)", old.number)
	}
	one := &tx{transaction: old.transaction, conn: conn, p: &producer{producers: w.apps}}
	for i, topic := range []string{"orders.created", "users.created", "audit.login.failed", "strict.step", "poison.pill"} {
		if err == nil {
			err = one.insert(t.Context(), Message{Topic: topic, Key: "old", Order: int64(i + 1)})
		}
	}
	if err == nil {
		err = conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&old.xid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return old
}

// commit ends it.
func (o *oldTransaction) commit(t *testing.T, w *world) {
	t.Helper()
	if _, err := o.conn.Exec(context.WithoutCancel(t.Context()), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	w.apps.history.end(o.transaction, answerCommitted)
}
