package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
)

// plant lets a role that may create in public stand in for PostgreSQL: functions of the same names and arguments, operators on the same
// types and on the outbox's domains, types, tables and views of the same names. Whatever of it is called counts, and names itself in the
// server's log. (A sequence counts also what is rolled back.)
const plant = `
SET search_path = pg_catalog, pg_temp;
CREATE SEQUENCE public.calls;
GRANT ALL ON public.calls TO PUBLIC;
DO $plant$
DECLARE
    f       record;
    o       record;
    body    text;
    planted int := 0;
    failed  text;
BEGIN
    FOR f IN
        SELECT p.proname AS name, pg_get_function_identity_arguments(p.oid) AS args, format_type(p.prorettype, NULL) AS result, p.proretset AS many
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
          AND p.proname !~ '^(pg_stat|pg_ls|binary_upgrade|brin|gin|gist|spg|hash|bt|ts_|tsq|tsv|regconf|circle|box|poly|path|lseg|point|line|money|inet|cidr|mac|xml|range_.*sel|.*(sel|joinsel|selfuncs)$|.*_support$|.*(recv|send)$|.*typmod(in|out)$)'
          AND NOT EXISTS (SELECT FROM unnest(p.proargtypes || p.prorettype) a (oid) JOIN pg_type t ON t.oid = a.oid WHERE t.typtype = 'p')
    LOOP
        body := format('BEGIN RAISE LOG %L; PERFORM pg_catalog.nextval(%L::pg_catalog.regclass); RETURN%s; END', 'hostile function ' || f.name,
            'public.calls', CASE WHEN f.many OR f.result = 'void' THEN '' ELSE ' NULL' END);
        BEGIN
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS %L', f.name, f.args,
                CASE WHEN f.many THEN 'SETOF' ELSE '' END, f.result, body);
            planted := planted + 1;
        EXCEPTION WHEN OTHERS THEN
            failed := SQLERRM;
        END;
    END LOOP;
    -- The same with the outbox's domains, which fit better than what PostgreSQL has for their base types.
    FOR f IN SELECT n.name, t.name AS type FROM unnest(ARRAY['length', 'lower', 'upper', 'replace', 'regexp_replace', 'jsonb_typeof', 'octet_length',
        'convert_to', 'left', 'count', 'md5', 'hashtext', 'jsonb_each', 'coalesce', 'text', 'pg_column_size']) n (name)
        CROSS JOIN unnest(ARRAY['postrider.topic', 'postrider.headers']) t (name) LOOP
        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS %L', f.name, f.type,
            format('BEGIN RAISE LOG %L; PERFORM pg_catalog.nextval(%L::pg_catalog.regclass); RETURN NULL; END', 'hostile function of a domain ' || f.name, 'public.calls'));
    END LOOP;
    FOR o IN
        WITH types (name) AS (VALUES ('text'), ('bigint'), ('integer'), ('smallint'), ('jsonb'), ('boolean'), ('timestamp with time zone'), ('interval'), ('xid8'),
            ('pg_snapshot'), ('uuid'), ('oid'), ('name'), ('bytea'), ('int8multirange'), ('double precision'), ('numeric'), ('text[]'), ('bigint[]'),
            ('xid8[]'), ('pg_lsn'), ('regclass'), ('postrider.topic'), ('postrider.headers'))
        SELECT op.name AS op, l.name AS l, r.name AS r FROM unnest(ARRAY['=', '<>', '<', '<=', '>', '>=', '~', '!~', '~~', '||', '@>', '<@', '->', '->>', '+', '-', '*', '/', '%',
            '@@', '?', '#>', '&&']) op (name)
        CROSS JOIN types l CROSS JOIN types r
        WHERE l.name = r.name OR l.name LIKE 'postrider.%' OR r.name LIKE 'postrider.%'
           OR EXISTS (SELECT FROM pg_catalog.pg_operator k WHERE k.oprname = op.name AND k.oprleft = to_regtype(l.name) AND k.oprright = to_regtype(r.name))
    LOOP
        BEGIN
            EXECUTE format('CREATE OR REPLACE FUNCTION public.hostile(a %s, b %s) RETURNS boolean LANGUAGE plpgsql AS %L', o.l, o.r,
                format('BEGIN RAISE LOG %L, a, b; PERFORM pg_catalog.nextval(%L::pg_catalog.regclass); RETURN true; END', 'hostile operator ' || o.l || ' ' || o.r || ' % %', 'public.calls'));
            EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.hostile)', o.op, o.l, o.r);
            planted := planted + 1;
        EXCEPTION WHEN OTHERS THEN
            failed := SQLERRM;
        END;
    END LOOP;
    FOR f IN SELECT * FROM unnest(ARRAY['text', 'jsonb', 'timestamptz', 'bytea', 'uuid', 'xid8', 'pg_snapshot', 'int8multirange', 'regclass', 'name', 'oid', 'int4', 'int8', 'bool']) t (name) LOOP
        EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.%1$I CHECK (public.hostile(VALUE::pg_catalog.text, NULL::pg_catalog.text))', f.name);
        planted := planted + 1;
    END LOOP;
    FOR f IN SELECT c.relname AS name FROM pg_catalog.pg_class c WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace
        AND c.relname ~ '^pg_(settings|class|proc|namespace|roles|database|trigger|publication|publication_tables|replication_slots|stat_activity|locks|prepared_xacts|stat_replication|type|constraint|inherits|stat_database|auth_members)$' LOOP
        EXECUTE format('CREATE VIEW public.%I AS SELECT c.* FROM pg_catalog.%1$I c WHERE public.hostile(NULL::pg_catalog.text, NULL::pg_catalog.text)', f.name);
        planted := planted + 1;
    END LOOP;
    IF planted < 1000 THEN
        RAISE EXCEPTION 'only % planted: %', planted, failed;
    END IF;
END $plant$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
`

// Nothing that somebody else has made in public runs with the rights of the relay, of the role that migrates or of the application,
// also where their own search_path puts public first.
func TestNobodyStandsInForPostgreSQL(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	relay := db.Role(t, "relay", "SUPERUSER")
	app := db.Role(t, "app", "")
	db.Exec(t, migrations.AppGrants(app))
	db.Exec(t, plant)
	db.Exec(t, fmt.Sprintf("ALTER DATABASE %q SET search_path = public, pg_catalog", db.Name))

	// The plants bear fruit: an ordinary session calls them.
	before := 0
	for _, sql := range []string{"SELECT 'a'::postrider.topic ~ 'x'::text", "SELECT replace('a', 'b', 'c')", "SELECT 1 = 1", "SELECT '1'::jsonb", "TABLE pg_roles"} {
		if _, err := connectTo(t, db.URL()).Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Logf("%s: %v", sql, err)
		}
		n := calls(t, db)
		if n <= before {
			t.Errorf("%s calls nothing: the test would notice nothing", sql)
		}
		before = n
	}
	bouncer := pgtest.Bouncers(t, db.Server, pgtest.BouncerOptions{User: relay})
	for _, way := range []struct{ follow, url string }{{"stream", db.RoleURL(relay)}, {"timer", db.RoleURL(relay)}, {"timer", bouncer.URL(db.Name)}} {
		hostileRound(t, db, way.url, db.RoleURL(app), way.follow)
	}
	hostileSQL(t, db.RoleURL(relay))
	db.Exec(t, "SET search_path = pg_catalog, pg_temp; DROP SCHEMA postrider CASCADE; DROP PUBLICATION postrider")
	on(t, db.RoleURL(relay), "migrate").ok("applied")
	if n := calls(t, db) - before; n != 0 {
		t.Errorf("%d calls of what others have made:\n%s", n, hostileCalls(db.Server.LogTail(3000)))
	}
}

func calls(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	var n int
	err := connectTo(t, db.URL()).QueryRow(t.Context(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END::pg_catalog.int4 FROM public.calls",
		pgx.QueryExecModeSimpleProtocol).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// hostileRound uses everything once.
func hostileRound(t *testing.T, db *pgtest.DB, url, appURL, follow string) {
	t.Helper()
	sink, received := webhookReceiver(t, accepts)
	file := writeFile(t, "subscriptions: [{name: default, topics: ['a.>'], sink: '"+sink+"'}, {name: other, topics: [b], sink: '"+sink+"'}]")
	on(t, url, "subs", "apply", file).ok()
	p := start(t, append(sidecar(url, sink, "a.>"), "POSTRIDER_FOLLOW="+follow, "POSTRIDER_RETENTION=1s")...)
	p.waitFor("delivering")
	conn := connectTo(t, appURL)
	for _, m := range []outbox.Message{{Topic: "a.x", Key: "k", Payload: 1, Headers: map[string]string{"h": "v"}}, {Topic: "a.y", Body: []byte("2")}} {
		if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			_, err := outbox.Enqueue(t.Context(), tx, m)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		receive(t, received)
	}
	if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		_, err := outbox.EnqueueBatch(t.Context(), tx, []outbox.Message{{Topic: "a.z", Payload: 1}, {Topic: "b", Body: []byte("2")}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	receive(t, received)
	receive(t, received)
	for _, args := range [][]string{
		{"enqueue", "a.q", `{"n":1}`}, {"status"}, {"subs", "list"}, {"subs", "pause", "other", "--reason", "x"}, {"subs", "resume", "other"},
		{"subs", "replay", "other", "--start", "earliest"}, {"subs", "replay", "default", "--start", "2020-01-01T00:00:00Z"}, {"parked", "list", "default"},
		{"migrate"}, {"subs", "remove", "other"}, {"parked", "redrive", "default", "--all"}, {"parked", "discard", "default", "--all"},
	} {
		on(t, url, args...).ok()
	}
	doctorOn(t, url, "POSTRIDER_FOLLOW="+follow)
	p.signal(syscall.SIGTERM)
	if status := p.ends(); status != 0 {
		t.Errorf("%s: status %d", follow, status)
	}
}

// hostileSQL calls the schema's functions and reads its views in a session that pins nothing.
func hostileSQL(t *testing.T, url string) {
	t.Helper()
	conn := connectTo(t, url)
	for _, sql := range []string{"SELECT postrider.subscribe('s', '{a,b.*}', 'stdout:', '{}', '2020-01-01')", "SELECT postrider.enqueue('a', '{}', 'k', '{}')",
		"SELECT postrider.enqueue_bytes('a', 'x')", "SELECT postrider.pause('s', 'why')", "SELECT postrider.resume('s')", "SELECT postrider.replay('s', 'earliest')",
		"SELECT postrider.redrive('s')", "SELECT postrider.discard('s', '{1}')", "SELECT postrider.complete('s', 1, 1)", "SELECT postrider.fail('s', 1, 1, 'x', '1s')",
		"SELECT postrider.heartbeat('s', 1, 1, '1 min')", "SELECT postrider.attempt_state('s', 1, 1)", "SELECT postrider.set_segment_length('3h')",
		"SELECT postrider.enable_notify()", "INSERT INTO postrider.outbox (topic, payload, headers) VALUES ('a', '1', '{}')", "SELECT postrider.disable_notify()",
		"UPDATE postrider.subscriptions SET topics = '{c,d.>}'", "TABLE postrider.deliveries", "TABLE postrider.subscription_status",
		"SELECT postrider.backlogs()", "SELECT postrider.unsubscribe('s')", "UPDATE postrider.source SET database_oid = '1'", "SELECT postrider.rebase()",
	} {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// hostileCalls are the lines of a server's log that tell of calls, each once.
func hostileCalls(log string) string {
	seen := map[string]bool{}
	var b strings.Builder
	for line := range strings.SplitSeq(log, "\n") {
		if _, what, ok := strings.Cut(line, "LOG:  hostile "); ok && !seen[what] {
			seen[what] = true
			b.WriteString(what + "\n")
		} else if ok || strings.Contains(line, "STATEMENT") || strings.Contains(line, "CONTEXT") {
			if !seen[line] && len(seen) < 60 {
				seen[line] = true
				b.WriteString("  " + line + "\n")
			}
		}
	}
	return b.String()
}
