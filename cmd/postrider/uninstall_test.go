package main

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// uninstall prints what it would do and what would be lost, refuses while a relay is registered, and leaves nothing behind; what was
// there can be installed again.
func TestUninstall(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	on(t, db.URL(), "enqueue", "orders.created").ok()
	park(t, db)
	db.Exec(t, "INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, gen_random_uuid(), 'r1', 'v')")
	words := []string{`-- Lost: 1 retained messages.`, `messages of subscription "billing" in state dead`, `-- Against it: relay "r1" is registered`,
		"DROP PUBLICATION postrider; DROP SCHEMA postrider CASCADE;"}
	on(t, db.URL(), "uninstall").ok(words...).lacks("Done")
	on(t, db.URL(), "uninstall", "--force").fails("--force has no meaning without --yes")
	on(t, db.URL(), "uninstall", "--yes").fails("nothing is removed", `relay "r1" is registered`, "--force").has(words...)
	on(t, db.URL(), "status").ok("billing")
	on(t, db.RoleURL(db.Role(t, "nobody", "")), "uninstall", "--yes").fails("permission denied")
	on(t, db.URL(), "uninstall", "--yes", "--force").ok("Done")
	on(t, db.URL(), "uninstall", "--yes").ok("Nothing of Postrider is here")
	on(t, db.URL(), "migrate").ok("applied")
	on(t, db.URL(), "enqueue", "orders.created").ok()
	// What it prints is what removes it.
	db.Exec(t, on(t, db.URL(), "uninstall").ok().out)
	on(t, db.URL(), "uninstall").ok("Nothing of Postrider is here")
	on(t, pgtest.Empty(t).URL(), "uninstall", "--yes").ok("Nothing of Postrider is here")
}

// A schema that was dropped by hand leaves the publication: migrating goes on from there, and a stream works afterwards.
func TestMigrateAfterDropSchema(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "DROP SCHEMA postrider CASCADE")
	on(t, db.URL(), "migrate").ok("applied")
	on(t, db.URL(), "doctor").ok("ok publication the publication holds the outbox")
	db.Exec(t, "TRUNCATE postrider.schema_migrations")
	on(t, db.URL(), "migrate").fails("does not say which migrations made them", "INSERT INTO postrider.schema_migrations", "postrider uninstall --yes --force")
	on(t, db.URL(), "uninstall", "--yes").ok("Done")
	on(t, db.URL(), "migrate").ok("applied")
}

// A publication of our name that is somebody else's stays as it is; doctor and relay say why there is no stream.
func TestSomebodyElsesPublication(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	db.Exec(t, "CREATE TABLE theirs (n int); CREATE PUBLICATION postrider FOR TABLE theirs")
	on(t, db.URL(), "migrate").ok("applied")
	on(t, db.URL(), "doctor").ok("warn publication the publication postrider", "is not as Postrider makes it", "public.theirs")
	doctorOn(t, db.URL(), "POSTRIDER_FOLLOW=stream").fails("1 check failed").has("fail publication")
}
