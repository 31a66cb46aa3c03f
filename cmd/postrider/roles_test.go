package main

import (
	"strings"
	"testing"
)

// The SQL that grants prints is what the two roles need: no less for the commands, no more for an application.
func TestGrants(t *testing.T) {
	db := newDB(t)
	shop, rider := db.Role(t, "shop", ""), db.Role(t, "Rider", "")
	on(t, db.RoleURL(shop), "enqueue", "orders.created").fails("permission denied", "`postrider grants")
	on(t, db.RoleURL(rider), "status").fails("permission denied", "`postrider grants --relay ROLE`")
	db.Exec(t, runCommand(t, nil, "", "grants", "--app", shop, "--relay", rider).ok().out)

	on(t, db.RoleURL(shop), "enqueue", "orders.created", `{"a": 1}`, "--key", "k", "--header", "a=b", "--deliver-at", "1m").ok()
	on(t, db.RoleURL(shop), "enqueue", "orders.created", "x", "--bytes").ok()
	for _, args := range []string{"status", "subs list", "parked list", "subs remove billing", "migrate"} {
		on(t, db.RoleURL(shop), strings.Fields(args)...).fails("permission denied")
	}

	relay := func(args ...string) result { t.Helper(); return on(t, db.RoleURL(rider), args...).ok() }
	relay("migrate").has("up to date")
	relay("subs", "apply", writeFile(t, twoSubscriptions)).has("billing created")
	park(t, db)
	relay("subs", "apply", writeFile(t, strings.Replace(twoSubscriptions, "orders.>", "'>'", 1))).has("billing changed: topics")
	relay("status").has("billing active")
	relay("subs", "list")
	relay("subs", "pause", "billing")
	relay("subs", "resume", "billing")
	relay("subs", "replay", "billing", "--from", "earliest")
	relay("subs", "replay", "billing", "--from", "2026-01-31T12:00:00Z")
	relay("parked", "list")
	relay("parked", "show", "billing", "104")
	relay("parked", "redrive", "billing", "104")
	relay("parked", "discard", "billing", "--all")
	on(t, db.RoleURL(rider), "enqueue", "orders.created").fails("permission denied", "--app ROLE")
	relay("doctor").has("ok privileges", "GRANT pg_read_all_stats TO").lacks("fail ", "cannot be checked")
	relay("subs", "remove", "billing")
}

func TestGrantsNeedsARole(t *testing.T) {
	runCommand(t, nil, "", "grants").fails("give --app ROLE, --relay ROLE or --worker ROLE")
	runCommand(t, nil, "", "grants", "--app", `we"ird`).ok(`TO "we""ird";`).lacks("REPLICATION")
}
