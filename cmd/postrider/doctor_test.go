package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/admin/doctor"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// doctorOn runs doctor with settings.
func doctorOn(t *testing.T, url string, env ...string) result {
	t.Helper()
	return runCommand(t, append(env, "POSTRIDER_DATABASE_URL="+url), "", "doctor")
}

func TestDoctorOnAHealthyDatabase(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	r := on(t, db.URL(), "doctor").ok(
		"ok primary", "ok pooler no pooler", "ok connections", "ok clock", "ok wal_level logical", "ok replication", "ok slots",
		"ok senders", "ok schema version", "ok privileges", "ok identity", "ok publication", "ok transactions",
		"note relays no relay is registered", "ok subscriptions 2 subscriptions", "ok dead letters none", "note role role \"postgres\" has SUPERUSER", "ok segments", ", 2 notes, 0 warnings, 0 failed")
	r.lacks("cannot be checked", "→ SELECT")
	var report struct{ Findings []doctor.Finding }
	if err := json.Unmarshal([]byte(on(t, db.URL(), "doctor", "--json").ok().out), &report); err != nil || len(report.Findings) < 15 {
		t.Errorf("JSON: %d findings, %v", len(report.Findings), err)
	}
}

func TestDoctorWithoutADatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	runCommand(t, nil, "", "doctor").fails("no database: set POSTRIDER_DATABASE_URL")
	on(t, "postgres://x@127.0.0.1:1/x", "doctor").fails("1 check failed").has("fail connection", "→ check host and port")
	on(t, strings.Replace(db.URL(), db.Name, "no_such_db", 1), "doctor").fails("1 check failed").has("→ check the database in POSTRIDER_DATABASE_URL")
	on(t, db.RoleURL("nobody_here"), "doctor").fails("1 check failed").has("→ check user and password")
	on(t, db.URL(), "doctor").fails("1 check failed").has("fail schema the database holds no Postrider schema → postrider migrate")
	r := on(t, db.URL(), "doctor", "--json").fails("1 check failed")
	if !json.Valid([]byte(r.out)) {
		t.Errorf("no JSON: %s", r.out)
	}
}

func TestDoctorOnOtherSchemas(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "UPDATE postrider.schema_migrations SET version_id = 20 WHERE version_id = $1", migrations.Version)
	on(t, db.URL(), "doctor").fails("failed").has("fail schema the schema postrider has migrations of a build that was never released (20)", "→ postrider uninstall --yes --force")
	on(t, db.URL(), "status").fails("run `postrider uninstall --yes --force`")
	on(t, db.URL(), "migrate").fails("run `postrider uninstall --yes --force`")
	on(t, db.URL(), "uninstall", "--yes", "--force").ok()
	on(t, db.URL(), "migrate").ok(fmt.Sprintf("applied: the schema has version %d now", migrations.Version))
	db.Exec(t, "INSERT INTO postrider.schema_migrations (version_id, is_applied) VALUES ($1, true)", migrations.Version+1)
	on(t, db.URL(), "doctor").ok("note schema", "upgrade this relay")
}

func TestDoctorOnPrivileges(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	role := db.Role(t, "relay", "")
	doctorOn(t, db.RoleURL(role)).fails("failed").has("fail schema role", "postrider grants --relay "+role)
	db.Exec(t, "GRANT USAGE ON SCHEMA postrider TO "+role+"; GRANT SELECT ON postrider.schema_migrations TO "+role)
	r := doctorOn(t, db.RoleURL(role)).fails("failed").has("fail privileges", "note replication", "→ ALTER ROLE \""+role+"\" REPLICATION;")
	// The SQL that it prints is the SQL that mends it.
	for line := range strings.SplitSeq(r.out, "\n") {
		if _, sql, ok := strings.Cut(line, "→ GRANT"); ok {
			db.Exec(t, "GRANT"+sql)
		}
	}
	db.Exec(t, fmt.Sprintf("ALTER ROLE %q REPLICATION", role))
	doctorOn(t, db.RoleURL(role)).ok("ok privileges", "ok replication", "ok transactions", "0 failed")

	db.Exec(t, "REVOKE TRUNCATE ON postrider.outbox_3, postrider.outbox_11 FROM "+role+"; REVOKE DELETE ON postrider.parked FROM "+role)
	doctorOn(t, db.RoleURL(role)).fails("1 check failed").
		has("→ GRANT TRUNCATE ON postrider.outbox_11, postrider.outbox_3 TO "+role+";", "→ GRANT DELETE ON postrider.parked TO "+role+";")
	db.Exec(t, fmt.Sprintf("ALTER ROLE %q NOREPLICATION", role))
	doctorOn(t, db.RoleURL(role), "POSTRIDER_FOLLOW=stream").fails("2 checks failed").has("fail replication")
	doctorOn(t, db.RoleURL(role), "POSTRIDER_FOLLOW=timer").fails("1 check failed").lacks("replication  ")
}

// Each row breaks something, and names what doctor says and the SQL that it offers; that SQL is run and mends it.
func TestDoctorOffersTheRemedy(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	role := db.Role(t, "relay", "SUPERUSER")
	for _, c := range []struct{ name, breaks, env, finding, remedy string }{
		{"no publication", "DROP PUBLICATION postrider", "", "warn publication the publication postrider is missing",
			"CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true);"},
		{"publication of nothing", "ALTER PUBLICATION postrider DROP TABLE postrider.outbox", "", "warn publication the publication postrider does not hold",
			"ALTER PUBLICATION postrider ADD TABLE postrider.outbox;"},
		{"publication of leaves", "ALTER PUBLICATION postrider SET (publish_via_partition_root = false)", "POSTRIDER_FOLLOW=stream", "fail publication",
			"ALTER PUBLICATION postrider SET (publish = 'insert', publish_via_partition_root = true);"},
		{"no trigger", "SELECT postrider.disable_notify()", "POSTRIDER_FOLLOW=listen", "fail notify", "SELECT postrider.enable_notify();"},
		{"needless trigger", "SELECT postrider.enable_notify()", "", "note notify", "SELECT postrider.disable_notify();"},
		{"sequence behind", "SELECT postrider.enqueue('a', '1'), setval('postrider.outbox_id_seq', 1, false)", "",
			"warn ids the sequence of ids is behind: the next message gets id 1, and the outbox holds ids up to 1;", "SELECT setval('postrider.outbox_id_seq', (SELECT max(id) FROM postrider.outbox));"},
		{"leftover slot", "SELECT pg_create_logical_replication_slot('postrider_' || current_database(), 'pgoutput')", "", "warn leftover slot",
			"SELECT pg_drop_replication_slot('postrider_" + db.Name + "');"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db.Exec(t, c.breaks)
			env := []string{"POSTRIDER_IGNORED=1"}
			if c.env != "" {
				env = []string{c.env}
			}
			doctorOn(t, db.RoleURL(role), env...).has(c.finding, "→ "+c.remedy)
			db.Exec(t, c.remedy)
			doctorOn(t, db.RoleURL(role), env...).lacks(c.remedy)
		})
	}
}

func TestDoctorOnAnotherClustersData(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "UPDATE postrider.source SET database_oid = 1")
	on(t, db.URL(), "doctor").fails("1 check failed").has("fail identity the outbox came from another database", "→ postrider rebase --yes")
}

func TestDoctorOnSubscriptions(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	on(t, db.URL(), "enqueue", "orders.created").ok()
	park(t, db)
	on(t, db.URL(), "subs", "pause", "billing").ok()
	on(t, db.URL(), "doctor").ok(`note subscriptions "billing" has been paused for`, "no reason given", "→ postrider subs resume billing", "postrider subs remove billing",
		`warn dead letters "billing" has 2 dead letters`, "→ postrider parked redrive billing --all")
	db.Exec(t, `ALTER TABLE postrider.subscriptions DISABLE TRIGGER USER;
		UPDATE postrider.subscriptions SET updated_at = now() - interval '3 days';
		UPDATE postrider.cursors SET saved_at = now() - interval '2 hours'`)
	on(t, db.URL(), "doctor").ok(`warn subscriptions "billing" has been paused for 3d (no reason given), and holds 1 segment`,
		`warn subscriptions "bus" has been delivered by nobody for 2h, and holds 1 segment`)
	db.Exec(t, "UPDATE postrider.cursors SET trouble = 'no such host' WHERE subscription = 'bus'")
	on(t, db.URL(), "doctor").ok(`warn subscriptions "bus": no such host, and holds 1 segment`)
	db.Exec(t, "UPDATE postrider.cursors SET trouble = 'destination is misconfigured: no such topic' WHERE subscription = 'bus'")
	on(t, db.URL(), "doctor").fails("1 check failed").has(`fail subscriptions "bus": destination is misconfigured: no such topic, and holds 1 segment`, "→ change what the reason names")
}

func TestDoctorOnOldTransactions(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "SET application_name = 'batch'; BEGIN; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'forgotten'")

	var found []string
	for _, f := range doctor.Examine(t.Context(), doctor.Options{DatabaseURL: db.URL(), OldTransaction: time.Nanosecond}) {
		found = append(found, f.Status+" "+f.Name+" "+f.Message+" "+strings.Join(f.Remedy, " "))
	}
	all := strings.Join(found, "\n")
	for _, want := range []string{
		fmt.Sprintf("SELECT pg_terminate_backend(%d);", conn.PgConn().PID()), `warn transactions process`, `application "batch"`,
		"warn prepared", "COMMIT PREPARED 'forgotten';",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

func TestDoctorWithoutLogicalWAL(t *testing.T) {
	t.Parallel()
	server := pgtest.Servers(t, pgtest.Options{WALLevel: "replica", Settings: map[string]string{"max_connections": "12"}})
	db := server.NewDB(t)
	// Nobody is surprised by a warning that a migration causes: the publication works, it is just not used.
	on(t, db.URL(), "migrate").ok("applied")
	doctorOn(t, db.URL()).ok("note wal_level wal_level is replica: new messages are found on the timer", "→ ALTER SYSTEM SET wal_level = logical;",
		"restart the server", "0 failed", "warn connections").lacks("slots")
	doctorOn(t, db.URL(), "POSTRIDER_FOLLOW=stream").fails("1 check failed").has("fail wal_level")
	doctorOn(t, db.URL(), "POSTRIDER_FOLLOW=timer").ok("ok wal_level POSTRIDER_FOLLOW=timer needs no logical replication")
}

func TestDoctorOnFewSlots(t *testing.T) {
	t.Parallel()
	server := pgtest.Servers(t, pgtest.Options{Settings: map[string]string{"max_replication_slots": "1", "max_wal_senders": "1"}})
	db := server.NewDB(t)
	on(t, db.URL(), "migrate").ok()
	doctorOn(t, db.URL()).ok("warn slots 0 of 1 replication slots are taken", "→ ALTER SYSTEM SET max_replication_slots = 6;", "warn senders", "→ ALTER SYSTEM SET max_wal_senders = 6;")
}
