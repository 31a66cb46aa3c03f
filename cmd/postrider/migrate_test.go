package main

import (
	"fmt"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/internal/schema"
)

// migrate goes one step at a time where that is asked for, says what is applied and what is missing, and never goes back.
func TestMigrateStepByStep(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	on(t, db.URL(), "migrate", "--status").ok("VERSION", "00021_1_outbox.sql").lacks("2026-")
	on(t, db.URL(), "migrate", "--to", "20").fails("this build has the versions 21 to")
	on(t, db.URL(), "migrate", "--to", "23").ok("3 migrations applied: the schema has version 23 now.")
	on(t, db.URL(), "migrate", "--to", "22").fails("--to 22: the schema has version 23 already, and there is no way back")
	on(t, db.URL(), "migrate", "--to", "23").ok("The schema is up to date (version 23).")
	on(t, db.URL(), "migrate", "--to", "23", "--status").fails("none of the others can be")
	on(t, db.URL(), "migrate", "--status").ok("23 20", "24 no 00024_1_shards.sql")
	on(t, db.URL(), "migrate", "--status", "--json").ok(`"version": 24`, `"applied_at": null`)
	on(t, db.URL(), "migrate").ok(fmt.Sprintf("applied: the schema has version %d now.", schema.Version))
	on(t, db.URL(), "migrate", "--status").ok().lacks(" no 0")
	db.Exec(t, "INSERT INTO postrider.schema_migrations (version_id, is_applied) VALUES (9999, true)")
	on(t, db.URL(), "migrate").ok("The schema has version 9999, of a newer build than this")
	on(t, db.URL(), "migrate", "--status").ok("9999 20", "of a newer build than this")
}
