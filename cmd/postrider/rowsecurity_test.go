package main

import (
	"fmt"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// relayRole is a role that can do what a relay needs, and nothing else.
func relayRole(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	role := db.Role(t, "relay", "")
	db.Exec(t, migrations.RelayGrants(role))
	return role
}

// What row security hides is not taken for what is not there: whichever table it is on, and whatever causes ticks, the relay stops and
// says why, doctor offers the statement that mends it, and then all arrives.
func TestHiddenRowsAreNotTakenForNone(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"outbox", "cursors", "subscriptions", "parked", "relays", "source", "schema_migrations"} {
		for _, follow := range []string{"timer", "stream"} {
			t.Run(table+" "+follow, func(t *testing.T) {
				t.Parallel()
				db := newDB(t)
				role := relayRole(t, db)
				url, received := webhookReceiver(t, accepts)
				env := append(sidecar(db.RoleURL(role), url, "a"), "POSTRIDER_FOLLOW="+follow)
				p := start(t, env...)
				on(t, db.URL(), "enqueue", "a", `1`).ok()
				if got := receive(t, received); got != "1" {
					t.Fatalf("received %q", got)
				}
				db.Exec(t, "ALTER TABLE postrider."+table+" ENABLE ROW LEVEL SECURITY")
				on(t, db.URL(), "enqueue", "a", `2`).ok()
				const reason = `(?s)query would be affected by row-level security policy for table .*BYPASSRLS`
				if table == "source" || table == "schema_migrations" { // which are read at the start only
					p.cmd.Process.Kill()
					p.ends()
					p = start(t, env...)
				}
				p.waitFor(reason)
				if status := p.ends(); status != 1 {
					t.Errorf("status %d", status)
				}
				doctorOn(t, db.RoleURL(role)).has("fail row security row security hides rows of postrider."+table,
					fmt.Sprintf("→ ALTER ROLE %q BYPASSRLS;", role))
				db.Exec(t, fmt.Sprintf("ALTER ROLE %q BYPASSRLS", role))
				doctorOn(t, db.RoleURL(role)).lacks("row security")
				start(t, env...)
				for got := ""; got != "2"; { // the first may come again
					got = receive(t, received)
				}
			})
		}
	}
}

// The owner of a table with FORCE ROW LEVEL SECURITY is in the same position; and what runs with the owner's rights, too.
func TestHiddenFromTheOwner(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	owner := db.Role(t, "owner", "")
	db.Exec(t, fmt.Sprintf("ALTER DATABASE %q OWNER TO %q", db.Name, owner))
	on(t, db.RoleURL(owner), "migrate").ok()
	on(t, db.RoleURL(owner), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	db.Exec(t, "ALTER TABLE postrider.parked ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
	on(t, db.RoleURL(owner), "status").fails("row-level security", "BYPASSRLS")
	doctorOn(t, db.RoleURL(owner)).has("fail row security")
	for _, sql := range []string{"complete('billing', 1, 1)", "fail('billing', 1, 1)", "heartbeat('billing', 1, 1)", "attempt_state('billing', 1, 1)", "redrive('billing')",
		"discard('billing')"} {
		if _, err := connectTo(t, db.RoleURL(owner)).Exec(t.Context(), "SELECT postrider."+sql); err == nil {
			t.Errorf("%s works on rows that it cannot see", sql)
		}
	}
}
