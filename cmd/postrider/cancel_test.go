package main

import (
	"fmt"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// isCancelled waits until messages show says so.
func isCancelled(t *testing.T, db *pgtest.DB, id int64, reason string) {
	t.Helper()
	eventually(t, fmt.Sprintf("message %d is cancelled", id), func() bool {
		return one[string](t, db, fmt.Sprintf("SELECT coalesce(max(status), '') FROM postrider.deliveries_of(%d)", id)) == "cancelled"
	})
	on(t, db.URL(), "messages", "show", fmt.Sprint(id)).ok("status cancelled", "reason "+reason)
}

// What waits for workers is cancelled by ids, by topic and key, or all of it, while the relay goes on with the rest.
func TestCancelCommand(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	cancel := func(args ...string) result {
		t.Helper()
		return on(t, db.URL(), append([]string{"cancel", "mail"}, args...)...)
	}
	_, base := jobsSidecar(t, db)
	w := newJobWorker(t, base, "mailer-1")
	for n, key := range []string{"a", "a", "a", "b", "b"} {
		enqueueJob(t, db, n+1, key)
	}
	id := func(n int) int64 {
		return one[int64](t, db, fmt.Sprintf(`SELECT id FROM postrider.outbox WHERE payload @> '{"n": %d}'`, n))
	}
	out := w.take(2)
	cancel(fmt.Sprint(id(2)), "--reason", "withdrawn").ok(`1 message of subscription "mail" to be cancelled: ` + "`postrider messages show ID` tells when one is.")
	isCancelled(t, db, id(2), "withdrawn")
	cancel(fmt.Sprint(id(2))).ok(`1 message of subscription "mail" cancelled.`)
	cancel("--topic", "mail.*", "--key", "b", "--reason", "b is gone").ok("2 messages of subscription")
	cancel("--topic", "mail.*", "--key", "b").ok("has no such messages that are not settled, or not asked for yet")
	isCancelled(t, db, id(5), "b is gone")

	want := "ok,ok"
	for i, job := range out {
		if job.Key == "b" { // its worker is told when it says what came of it
			want = []string{"cancelled,ok", "ok,cancelled"}[i]
		}
	}
	w.settle(want, out[0].is("done"), out[1].is("done"))
	third := w.take(1)[0]
	if third.ID != id(3) {
		t.Errorf("after the cancelled one its key goes on with %d, want %d", third.ID, id(3))
	}
	w.settle("ok", third.is("done"))
	eventually(t, "that is delivered", func() bool {
		return one[string](t, db, fmt.Sprintf("SELECT status FROM postrider.deliveries WHERE id = %d", id(3))) == "delivered"
	})
	enqueueJob(t, db, 6, "c")
	cancel(fmt.Sprint(id(3)), "999", fmt.Sprint(id(6))).
		fails(fmt.Sprintf("message %d is delivered: it is too late to cancel it", id(3)), `message 999: subscription "mail" does not want it`).has("1 message of subscription")
	isCancelled(t, db, id(6), "cancelled")
	enqueueJob(t, db, 7, "")
	cancel("--all").ok("1 message of subscription")
	isCancelled(t, db, id(7), "cancelled")

	cancel().fails("say which messages: either ids, or --topic and --key, or --all")
	cancel("7", "--all").fails("either ids, or")
	cancel("7", "--key", "k").fails("either ids, or")
	cancel("--all", "--key", "k").fails("either ids, or")
	cancel("x").fails(`id "x": must be a number`)
	cancel("--topic", "a b").fails(`topic "a b": must be a pattern such as orders.created`)
	on(t, db.URL(), "cancel", "mial", "7").fails(`did you mean "mail"?`)
	on(t, db.URL(), "cancel", "--help").ok("postrider cancel SUBSCRIPTION [ID…|--topic PATTERN|--key KEY|--all]", "the order was withdrawn")
}

// Workers in SQL need no relay: their messages are cancelled at once.
func TestCancelCommandInSQL(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "SELECT postrider.subscribe('payments', '{payments.>}', 'sql:')")
	db.Exec(t, "SELECT postrider.enqueue('payments.new', '{}', key => 'k-' || g % 2) FROM generate_series(1, 5) g")
	on(t, db.URL(), "cancel", "payments", "1", "2", "77").fails("message 77").has(`2 messages of subscription "payments" cancelled.`)
	on(t, db.URL(), "cancel", "payments", "--key", "k-0").ok(`1 message of subscription "payments" cancelled.`)
	on(t, db.URL(), "cancel", "payments", "--key", "k-0").ok("has no such messages")
	on(t, db.URL(), "cancel", "payments", "1").ok(`1 message of subscription "payments" cancelled.`)
	if got := one[string](t, db, "SELECT string_agg(id::text, ',' ORDER BY id) FROM postrider.take('payments', 10)"); got != "3,5" {
		t.Errorf("workers get %s, want what was not cancelled: 3 and 5", got)
	}
}
