package migrations

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/pgtest"
)

func TestApplicationMayEnqueueAndNothingElse(t *testing.T) {
	db := pgtest.New(t)
	admin := db.Conn(t)
	role := db.Role(t, `we"ird app`, "")
	exec(t, admin, AppGrants(role))
	app := connect(t, db.RoleURL(role))

	const insert = `INSERT INTO postrider.outbox (topic, key, payload, headers, deliver_at) VALUES ('a', 'k', '{}', '{}', now()) RETURNING id`
	if a, b := one[int64](t, app, insert), one[int64](t, app, insert); b <= a {
		t.Errorf("ids %d, %d do not ascend", a, b)
	}
	exec(t, app, `INSERT INTO postrider.outbox (topic, body) VALUES ('a', 'x')`)
	one[int64](t, app, `SELECT postrider.enqueue('a', '{}')`)
	one[int64](t, app, `SELECT postrider.enqueue_bytes('a', 'x')`)
	exec(t, admin, `SELECT postrider.enable_notify()`)
	one[int64](t, app, insert)

	for _, sql := range []string{
		`INSERT INTO postrider.outbox (topic, payload, id) VALUES ('a', '1', 7)`,
		`INSERT INTO postrider.outbox (topic, payload, xid) VALUES ('a', '1', '7')`,
		`INSERT INTO postrider.outbox (topic, payload, segment) VALUES ('a', '1', 7)`,
		`INSERT INTO postrider.outbox (topic, payload, created_at) VALUES ('a', '1', now())`,
		`INSERT INTO postrider.outbox (topic, payload) VALUES ('a', '1') RETURNING xid`,
		`INSERT INTO postrider.outbox_1 (topic, payload) VALUES ('a', '1')`,
		`SELECT payload FROM postrider.outbox`, `SELECT * FROM postrider.outbox`, `SELECT id FROM postrider.outbox_1`,
		`UPDATE postrider.outbox SET topic = 'b'`, `DELETE FROM postrider.outbox`, `TRUNCATE postrider.outbox`, `TRUNCATE postrider.outbox_1`,
		`LOCK TABLE postrider.outbox IN EXCLUSIVE MODE`,
		`SELECT setval('postrider.outbox_id_seq', 1)`,
		`SELECT FROM postrider.source`, `SELECT FROM postrider.subscriptions`, `SELECT FROM postrider.cursors`,
		`SELECT FROM postrider.parked`, `SELECT FROM postrider.relays`, `SELECT FROM postrider.schema_migrations`,
		`SELECT FROM postrider.deliveries`, `SELECT FROM postrider.subscription_status`,
		`INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, gen_random_uuid(), 'x', 'x')`,
		`SELECT postrider.subscribe('x', '{a}', 'stdout:')`, `SELECT postrider.unsubscribe('x')`, `SELECT postrider.pause('x')`,
		`SELECT postrider.replay('x', 'now')`, `SELECT postrider.redrive('x')`, `SELECT postrider.discard('x')`,
		`SELECT postrider.rebase()`, `SELECT postrider.snapshot_before_me()`, `SELECT postrider.set_segment_length('1 hour')`,
		`SELECT postrider.enable_notify()`, `CREATE TABLE postrider.mine (n int)`,
	} {
		refused(t, app, "42501", sql)
	}
	nobody := connect(t, db.RoleURL(db.Role(t, "nobody", "")))
	refused(t, nobody, "42501", `SELECT postrider.enqueue('a', '{}')`)
}

func TestRelayNeedsNoSuperuser(t *testing.T) {
	db := pgtest.New(t)
	role := db.Role(t, "relay", "")
	exec(t, db.Conn(t), RelayGrants(role))
	enqueue(t, db.Conn(t), "a")
	relay := connect(t, db.RoleURL(role))
	for _, sql := range []string{
		`SELECT id, xid, created_at, deliver_at, segment, topic, key, payload, body, headers FROM postrider.outbox`,
		`SELECT postrider.subscribe('s', '{a}', 'stdout:', '{}', 'earliest')`,
		`INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, '5f0c1d6e-0000-4000-8000-000000000001', 'r', 'v')`,
		`UPDATE postrider.relays SET counter = counter + 1`,
		`UPDATE postrider.cursors SET owner = '5f0c1d6e-0000-4000-8000-000000000001', epoch = epoch + 1, base = pg_current_snapshot(), done = '{[1,2)}'`,
		`INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload) SELECT 's', id, 'dead', created_at, topic, payload FROM postrider.outbox ON CONFLICT DO NOTHING`,
		`UPDATE postrider.parked SET attempts = 2`,
		`SELECT FROM postrider.parked FOR UPDATE`, `SELECT FROM postrider.cursors ORDER BY subscription FOR UPDATE SKIP LOCKED`,
		`SELECT * FROM postrider.deliveries`, `SELECT * FROM postrider.subscription_status`,
		`SELECT postrider.redrive('s')`, `SELECT postrider.discard('s')`, `SELECT postrider.pause('s', 'why')`, `SELECT postrider.resume('s')`,
		`SELECT postrider.replay('s', 'earliest')`, `UPDATE postrider.subscriptions SET topics = '{b}', sink = 'stdout:', settings = '{"lanes": 2}'`,
		`SELECT postrider.topic_regex('{a}'), postrider.valid_patterns('{a}'), postrider.current_segment()`,
		`SELECT postrider.set_segment_length('3 hours')`,
		`SELECT id, system_identifier, database_oid FROM postrider.source`, `SELECT system_identifier FROM pg_control_system()`,
		`SELECT pubinsert, pubviaroot FROM pg_publication WHERE pubname = 'postrider'`, `SELECT FROM pg_publication_tables`,
		`SELECT pg_current_snapshot(), pg_current_wal_insert_lsn(), pg_is_in_recovery()`,
		`SELECT FROM pg_replication_slots`, `LISTEN postrider`, `SELECT pg_try_advisory_xact_lock(1886352500, 1)`,
		`DELETE FROM postrider.parked`, `SELECT postrider.unsubscribe('s')`, `DELETE FROM postrider.relays`,
	} {
		exec(t, relay, sql)
	}
	if v, err := Current(t.Context(), relay); err != nil || v != Version {
		t.Errorf("Current = %d, %v", v, err)
	}
	leaf := one[string](t, relay, `SELECT tableoid::regclass::text FROM postrider.outbox`)
	tx := begin(t, relay)
	exec(t, tx, `LOCK TABLE ONLY `+leaf+` IN ACCESS EXCLUSIVE MODE NOWAIT`)
	exec(t, tx, `TRUNCATE `+leaf)
	commit(t, tx)
	for _, sql := range []string{
		`UPDATE postrider.outbox SET topic = 'b'`, `DELETE FROM postrider.outbox`, `INSERT INTO postrider.outbox (topic, payload) VALUES ('a', '1')`,
		`UPDATE postrider.source SET id = 'x'`, `DELETE FROM postrider.schema_migrations`, `DROP TABLE postrider.relays`,
	} {
		refused(t, relay, "42501", sql)
	}
	stream(t, db.RoleURL(role))
}

// stream makes a temporary slot as the relay does and reads the publication from it.
func stream(t *testing.T, url string) {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `CREATE_REPLICATION_SLOT grants_test TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT`).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `SELECT count(*) FROM pg_logical_slot_peek_binary_changes('grants_test', NULL, NULL, 'proto_version', '1', 'publication_names', 'postrider')`).ReadAll(); err != nil {
		t.Errorf("read the publication: %v", err)
	}
}
