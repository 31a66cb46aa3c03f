package main

import (
	"fmt"
	"testing"

	"github.com/postrider/postrider/inbox"
	"github.com/postrider/postrider/internal/pgtest"
)

// The command makes the inbox, once, for a role that may accept messages; what it prints makes the same.
func TestInbox(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	role := db.Role(t, "receiver", "")
	installed := fmt.Sprintf("The inbox is installed (version %d).", inbox.Version)
	on(t, db.URL(), "inbox", "install", "--keep", "720h", "--grant", role).ok(installed, "are remembered for 720h0m0s.", role+" may accept messages.")
	on(t, db.URL(), "inbox", "install").ok(installed).lacks("remembered")
	on(t, db.URL(), "inbox", "install", "--keep", "1m").fails("it must be from 1 hour to 10 years")
	on(t, db.URL(), "inbox", "install", "--keep", "0").fails("it must be from 1 hour to 10 years")
	on(t, db.URL(), "inbox", "install", "--grant", "nobody-at-all").fails(`grant to "nobody-at-all"`, "does not exist")
	on(t, db.RoleURL(role), "inbox", "install").fails("permission denied")
	on(t, db.URL(), "uninstall", "--yes").ok("Nothing of Postrider is here")

	other := pgtest.Empty(t)
	other.Exec(t, on(t, "", "inbox", "sql", "--grant", role).ok("CREATE SCHEMA postrider_inbox").out)
	on(t, other.URL(), "inbox", "install").ok(installed)
	for _, d := range []*pgtest.DB{db, other} {
		conn := connectTo(t, d.RoleURL(role))
		for _, want := range []bool{true, false} {
			var fresh bool
			if err := conn.QueryRow(t.Context(), "SELECT postrider_inbox.accept('another''s', now() - interval '1 day')").Scan(&fresh); err != nil || fresh != want {
				t.Errorf("fresh: %t, %v, want %t", fresh, err, want)
			}
		}
	}
}
