package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/admin/doctor"
	"github.com/postrider/postrider/internal/pgtest"
)

// The SQL that grants prints is what the two roles need: no less for the commands, no more for an application.
func TestGrants(t *testing.T) {
	t.Parallel()
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
	relay("subs", "replay", "billing", "--start", "earliest")
	relay("subs", "replay", "billing", "--start", "2026-01-31T12:00:00Z")
	relay("parked", "list")
	relay("parked", "show", "billing", "104")
	relay("parked", "redrive", "billing", "104")
	relay("parked", "discard", "billing", "--all")
	on(t, db.RoleURL(rider), "enqueue", "orders.created").fails("permission denied", "--app ROLE")
	relay("doctor").has("ok privileges", "GRANT pg_read_all_stats TO").lacks("fail ", "cannot be checked")
	relay("subs", "remove", "billing")
}

// doctor judges a role by what it is for: nobody is told to become something else.
func TestDoctorKnowsWhatARoleIsFor(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	app, worker, both, timer := db.Role(t, "app", ""), db.Role(t, "worker", ""), db.Role(t, "both", ""), db.Role(t, "timer", "")
	grant := func(args ...string) string {
		t.Helper()
		sql := runCommand(t, nil, "", append([]string{"grants"}, args...)...).ok().out
		db.Exec(t, sql)
		return sql
	}
	grant("--app", app)
	grant("--worker", worker)
	grant("--app", both, "--worker", both)
	for role, want := range map[string]string{
		app:    "may enqueue messages, and nothing else: as it should be for an application",
		worker: "may settle asynchronous deliveries, and nothing else: as it should be for a worker",
		both:   "may enqueue messages and settle asynchronous deliveries, and nothing else: as it should be for an application that is a worker, too",
	} {
		doctorOn(t, db.RoleURL(role)).ok("ok role role \""+role+"\" "+want, "0 notes, 0 warnings, 0 failed").lacks("--relay", "GRANT", "REPLICATION")
	}
	db.Exec(t, `REVOKE USAGE ON SEQUENCE postrider.outbox_id_seq FROM `+app)
	doctorOn(t, db.RoleURL(app)).fails("1 check failed").has("fail role", "lacks USAGE on the sequence outbox_id_seq", "postrider grants --app "+app).lacks("--relay")
	db.Exec(t, `GRANT SELECT, DELETE ON postrider.outbox TO `+both)
	doctorOn(t, db.RoleURL(both)).ok("note role", "and more than that:", "DELETE on outbox", "REVOKE").lacks("--relay")

	if sql := grant("--relay", timer, "--no-stream"); strings.Contains(sql, "REPLICATION") {
		t.Errorf("--no-stream grants REPLICATION:\n%s", sql)
	}
	doctorOn(t, db.RoleURL(timer), "POSTRIDER_FOLLOW=timer").ok("ok role", "ok privileges", "0 failed").lacks("REPLICATION", "replication ")
	doctorOn(t, db.RoleURL(timer)).ok("note replication role \""+timer+"\" lacks REPLICATION: new messages are found on the timer", "copy the whole cluster", "POSTRIDER_FOLLOW=timer")
	db.Exec(t, "ALTER ROLE "+timer+" REPLICATION BYPASSRLS")
	doctorOn(t, db.RoleURL(timer), "POSTRIDER_FOLLOW=timer").ok("note replication", "which POSTRIDER_FOLLOW=timer does not need", "NOREPLICATION;", "note role", "BYPASSRLS", "NOBYPASSRLS;")
	doctorOn(t, db.RoleURL(timer)).ok("ok replication", "so it can stream; a role that has it can also copy the whole cluster")
}

func TestGrantsSaysWhatReplicationMeans(t *testing.T) {
	t.Parallel()
	runCommand(t, nil, "", "grants", "--relay", "rider").ok("ALTER ROLE \"rider\" REPLICATION;", "copy the whole cluster", "--no-stream")
	runCommand(t, nil, "", "grants", "--help").ok("a role that has it can copy the whole cluster", "--no-stream")
	runCommand(t, nil, "", "grants", "--app", "shop", "--no-stream").fails("--no-stream goes with --relay ROLE")
}

// Who keeps segments from being emptied is shown, be it a reader or a prepared transaction; so is a length that stops the ring.
func TestDoctorOnHeldSegments(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "SET application_name = 'report'; BEGIN; SELECT FROM postrider.outbox_3"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "BEGIN; INSERT INTO postrider.outbox (segment, topic, payload) VALUES (5, 'a', '1'); PREPARE TRANSACTION 'held segment'; SELECT postrider.set_segment_length('10 years')")
	options := doctor.Options{DatabaseURL: db.URL(), Retention: 24 * time.Hour, Follow: "timer", OldTransaction: time.Nanosecond}
	var all strings.Builder
	for _, f := range doctor.Examine(t.Context(), options) {
		fmt.Fprintln(&all, f.Status, f.Name, f.Message, f.Remedy)
	}
	for _, want := range []string{
		fmt.Sprintf("warn segments process %d (role \"postgres\", application \"report\", idle in transaction) has used segments of the outbox for", conn.PgConn().PID()),
		"(3): they are not emptied meanwhile", fmt.Sprintf("SELECT pg_terminate_backend(%d);", conn.PgConn().PID()),
		`warn segments the prepared transaction "held segment" of role "postgres"`, "(5): they are", "COMMIT PREPARED 'held segment';",
		"settled messages stay longer than the retention of 1d [SELECT postrider.set_segment_length('7200 seconds');]",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no %q in\n%s", want, &all)
		}
	}
}

func TestGrantsNeedsARole(t *testing.T) {
	t.Parallel()
	runCommand(t, nil, "", "grants").fails("give --app ROLE, --relay ROLE, --worker ROLE or --reader ROLE")
	runCommand(t, nil, "", "grants", "--app", `we"ird`).ok(`TO "we""ird";`).lacks("REPLICATION")
}

// The quick start's three roles, and no superuser at work: the schema's owner grants, the relay delivers what the application enqueues.
func TestQuickStartAsOrdinaryRoles(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	relay, shop := db.Role(t, "relay", ""), db.Role(t, "shop", "")
	on(t, db.URL(), "migrate", "--grant-relay", relay, "--grant-app", shop).ok(" applied")
	on(t, db.URL(), "migrate", "--grant-relay-no-stream", relay).ok("The schema is up to date")
	on(t, db.URL(), "migrate", "--grant-app", "nobody-of-that-name").fails(`grant role "nobody-of-that-name" what it needs`, "does not exist")
	url, received := webhookReceiver(t, accepts)
	p := start(t, "POSTRIDER_DATABASE_URL="+db.RoleURL(relay), "POSTRIDER_SINK="+url, "POSTRIDER_TOPICS=>")
	p.waitFor("msg=relaying")
	on(t, db.RoleURL(shop), "status").fails("permission denied")
	app := db.RoleURL(shop)
	conn, err := pgx.Connect(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `SELECT postrider.enqueue('a', '{"n": 1}')`); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, received); got != `{"n": 1}` {
		t.Errorf("received %q", got)
	}
}
