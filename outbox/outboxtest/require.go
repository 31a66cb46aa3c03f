package outboxtest

import (
	"context"
	"testing"

	"github.com/postrider/postrider/outbox"
)

// RequireEnqueued returns the one message that was enqueued in tx and matches want. Without one, and with several, the test ends here,
// with a list of what was enqueued and in what it differs.
func RequireEnqueued(t testing.TB, tx outbox.Tx, want outbox.Message) Enqueued {
	t.Helper()
	return requireOne(t, pgxRows(tx), want)
}

// RequireNotEnqueued ends the test if a message was enqueued in tx that matches unwanted; every message matches the zero Message.
func RequireNotEnqueued(t testing.TB, tx outbox.Tx, unwanted outbox.Message) {
	t.Helper()
	requireNone(t, pgxRows(tx), unwanted)
}

// All returns what was enqueued in tx, by id.
func All(t testing.TB, tx outbox.Tx) []Enqueued {
	t.Helper()
	return all(t, pgxRows(tx))
}

// RequireEnqueuedSQL is RequireEnqueued for database/sql.
func RequireEnqueuedSQL(t testing.TB, tx outbox.SQLTx, want outbox.Message) Enqueued {
	t.Helper()
	return requireOne(t, sqlRows(tx), want)
}

// RequireNotEnqueuedSQL is RequireNotEnqueued for database/sql.
func RequireNotEnqueuedSQL(t testing.TB, tx outbox.SQLTx, unwanted outbox.Message) {
	t.Helper()
	requireNone(t, sqlRows(tx), unwanted)
}

// AllSQL is All for database/sql.
func AllSQL(t testing.TB, tx outbox.SQLTx) []Enqueued {
	t.Helper()
	return all(t, sqlRows(tx))
}

// query runs a statement and calls scan for each row.
type query func(ctx context.Context, sql string, args []any, scan func(into func(...any) error) error) error

func requireOne(t testing.TB, q query, want outbox.Message) Enqueued {
	t.Helper()
	found, list := search(t, q, want)
	switch len(found) {
	case 0:
		t.Fatalf("no message that was enqueued in this transaction matches %s\n%s", describe(want), differences(list))
	case 1:
	default:
		t.Fatalf("%d messages that were enqueued in this transaction match %s: say more of the one that is meant, or ask All\n%s",
			len(found), describe(want), listing(found))
	}
	return found[0]
}

func requireNone(t testing.TB, q query, unwanted outbox.Message) {
	t.Helper()
	if found, _ := search(t, q, unwanted); len(found) > 0 {
		t.Fatalf("%d of the messages that were enqueued in this transaction match %s, which none may\n%s", len(found), describe(unwanted), listing(found))
	}
}

func all(t testing.TB, q query) []Enqueued {
	t.Helper()
	found, _ := search(t, q, outbox.Message{})
	return found
}

// search returns the transaction's messages that match, and all with their differences.
func search(t testing.TB, q query, want outbox.Message) (found []Enqueued, list []compared) {
	t.Helper()
	p, err := newPattern(want)
	if err != nil {
		t.Fatalf("the message to look for: %v", err)
	}
	if list, err = p.compare(t.Context(), q); err != nil {
		t.Fatalf("read what was enqueued in this transaction (the role must be one that may SELECT from postrider.outbox): %v", err)
	}
	for _, c := range list {
		if len(c.differs) == 0 {
			found = append(found, c.Enqueued)
		}
	}
	return found, list
}
