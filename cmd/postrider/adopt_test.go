package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// logged is what the outbox has, a line for each message.
func logged(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	return oneText(t, db, `SELECT coalesce(string_agg(concat_ws(' ', topic, coalesce(key, '-'), payload, body, headers, CASE WHEN priority <> 2 THEN priority END, deliver_at AT TIME ZONE 'UTC'), E'\n' ORDER BY id), '') FROM postrider.outbox`)
}

const debezium = `CREATE TABLE outboxevent (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
	type varchar(255) NOT NULL, payload jsonb)`

// An application that writes Debezium's layout, and deletes the row at once, goes on as it is; it has no rights on the schema.
func TestAdoptDebeziumsTable(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	role := db.Role(t, "app", "")
	db.Exec(t, debezium)
	db.Exec(t, "GRANT INSERT, DELETE, SELECT ON outboxevent TO "+role)
	printed := on(t, db.URL(), "adopt", "outboxevent").ok("CREATE TRIGGER to_postrider AFTER INSERT ON public.outboxevent").out
	if strings.Contains(printed, "Done") || logged(t, db) != "" {
		t.Fatal("something was done already")
	}
	db.Exec(t, "INSERT INTO outboxevent (aggregatetype, aggregateid, type) VALUES ('old', '1', 'before')")
	on(t, db.URL(), "adopt", "outboxevent", "--yes").ok("Done")
	on(t, db.URL(), "adopt", "outboxevent").fails("it is adopted already", "--remove")

	conn, err := pgx.Connect(t.Context(), db.RoleURL(role)+"&search_path=elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	const insert = "INSERT INTO public.outboxevent (id, aggregatetype, aggregateid, type, payload) VALUES ('00000000-0000-0000-0000-00000000000%d', '%s', '7', '%s', %s)"
	for _, sql := range []string{
		"BEGIN", fmt.Sprintf(insert, 1, "order", "created", `'{"id": 7}'`), "DELETE FROM public.outboxevent", "COMMIT",
		"BEGIN", fmt.Sprintf(insert, 2, "order", "rolled-back", "'1'"), "ROLLBACK",
		fmt.Sprintf(insert, 3, "$my order..x", "a*b\u00e4>", "NULL"),
		"DELETE FROM public.outboxevent",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if got, want := logged(t, db), "order.created 7 {\"id\": 7} {\"id\": \"00000000-0000-0000-0000-000000000001\"}\n_my_order.x.a_b__ 7 null {\"id\": \"00000000-0000-0000-0000-000000000003\"}"; got != want {
		t.Errorf("messages:\n%s\nwant:\n%s", got, want)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TEMP TABLE mine (LIKE public.outboxevent); CREATE TRIGGER x AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION public.outboxevent_trigger_postrider()"); err == nil {
		t.Error("somebody else has put the trigger on a table of his own")
	}
	on(t, db.URL(), "adopt", "outboxevent", "--remove", "--yes").ok("DROP TRIGGER", "Done")
	on(t, db.URL(), "adopt", "outboxevent", "--remove").fails("is not adopted")
	db.Exec(t, "INSERT INTO outboxevent (aggregatetype, aggregateid, type) VALUES ('late', '1', 'after')")
	if n := oneText(t, db, "SELECT count(*)::text FROM pg_proc WHERE proname LIKE '%postrider'"); n != "0" || strings.Contains(logged(t, db), "late") {
		t.Errorf("%s functions are left, and the log is\n%s", n, logged(t, db))
	}
}

// Rows that are there are copied once, those that are inserted meanwhile as well, and each of a key in its order.
func TestAdoptWhileItIsUsed(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, `CREATE SCHEMA "my shop"; CREATE TABLE "my shop"."Jobs" (n bigserial, who int, "what is" text) PARTITION BY LIST (who);
		CREATE TABLE "my shop".zero PARTITION OF "my shop"."Jobs" FOR VALUES IN (0); CREATE TABLE "my shop".others PARTITION OF "my shop"."Jobs" DEFAULT;`)
	ctx, stop := context.WithCancel(t.Context())
	var producers sync.WaitGroup
	for who := range 3 {
		conn := db.Conn(t)
		producers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				table := []string{`"my shop"."Jobs"`, `"my shop".zero`}[min(1, i%2+who)*(1-min(1, who))]
				if _, err := conn.Exec(context.Background(), "INSERT INTO "+table+` (who, "what is") VALUES ($1, '{"a": 1}')`, who); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	count := func() string { return oneText(t, db, `SELECT count(*)::text FROM "my shop"."Jobs"`) }
	eventually(t, "rows are there", func() bool { return len(count()) > 2 })
	on(t, db.URL(), "adopt", `"my shop"."Jobs"`, "--backfill", "--topic", "'jobs.' || r.who", "--key", "who", "--payload", "what is", "--headers", "jsonb_build_object('n', r.n::text)", "--order", "n", "--yes").ok("rows are there", "Done")
	before := count()
	eventually(t, "more rows are there", func() bool { return count() != before })
	stop()
	producers.Wait()
	if wrong := oneText(t, db, `SELECT concat_ws(' ', count(*) FILTER (WHERE o.id IS NULL), count(*) FILTER (WHERE j.n IS NULL), count(*) - count(DISTINCT j.n),
			count(*) FILTER (WHERE o.key <> j.who::text OR o.topic <> 'jobs.' || j.who OR o.payload <> '{"a": 1}'))
		FROM "my shop"."Jobs" j FULL JOIN postrider.outbox o ON (o.headers ->> 'n')::bigint = j.n`); wrong != "0 0 0 0" {
		t.Errorf("missing, too many, twice, wrong: %s", wrong)
	}
	if swapped := oneText(t, db, `SELECT count(*)::text FROM (SELECT (headers ->> 'n')::bigint < lag((headers ->> 'n')::bigint) OVER (PARTITION BY key ORDER BY id) AS back FROM postrider.outbox) s WHERE back`); swapped != "0" {
		t.Errorf("%s are out of order", swapped)
	}
	// What would let every INSERT fail goes with the schema.
	on(t, db.URL(), "uninstall", "--yes").ok(`DROP TRIGGER to_postrider ON "my shop"."Jobs"`, "Done")
	db.Exec(t, `INSERT INTO "my shop"."Jobs" (who) VALUES (1)`)
}

// Other tables are adopted by what their columns mean.
func TestAdoptByExpressions(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "CREATE TYPE mood AS ENUM ('new', 'done'); CREATE TABLE jobs (id int, kind text, args json, state mood, run_at timestamptz, urgent boolean); CREATE TABLE raw (data bytea, t text); CREATE TABLE other (a xml, n int)")
	on(t, db.URL(), "adopt", "jobs", "--topic", "kind", "--payload", "args", "--deliver-at", "run_at", "--priority", "CASE WHEN r.urgent THEN 1 END", "--where", "r.state = 'new'", "--yes").ok()
	on(t, db.URL(), "adopt", "raw", "--topic", "'raw'", "--payload", "data", "--yes").ok()
	on(t, db.URL(), "adopt", "other", "--topic", "'row'", "--payload", "to_jsonb(r)", "--yes").ok()
	db.Exec(t, `INSERT INTO jobs VALUES (1, 'mail', '{"to": "a"}', 'new', '2100-01-02 03:04:05Z', true), (2, 'mail', '1', 'done', NULL, NULL), (3, 'mail', '1', NULL, NULL, NULL),
		(4, NULL, '"\u0000"', 'new', NULL, false); INSERT INTO raw VALUES ('\x00ff'), (NULL); INSERT INTO other VALUES (NULL, 5)`)
	want := `mail - {"to": "a"} 1 2100-01-02 03:04:05
unnamed - \x225c753030303022
raw - \x00ff
raw - \x
row - {"a": null, "n": 5}`
	if got := logged(t, db); got != want {
		t.Errorf("messages:\n%s\nwant:\n%s", got, want)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"nothing"}, `table "nothing": there is no such table`},
		{[]string{"pg_catalog.pg_views"}, "it is not a table"},
		{[]string{"no such"}, `table "no such": invalid name syntax; name it as in SQL`},
		{[]string{"postrider.outbox"}, "it is Postrider's own"},
		{[]string{"other"}, "it is adopted already"},
		{[]string{"other", "--remove", "--topic", "n"}, "--remove goes with --yes alone"},
	} {
		on(t, db.URL(), append([]string{"adopt"}, c.args...)...).fails(c.want)
	}
	on(t, db.URL(), "adopt", "other", "--remove", "--yes").ok()
	on(t, db.URL(), "adopt", "other").fails("--topic: is not given", "(a, n)", "in which r is the row")
	on(t, db.URL(), "adopt", "other", "--topic", "n").fails("--payload: is not given", "to_jsonb(r)")
	on(t, db.URL(), "adopt", "other", "--topic", "r.m", "--payload", "n").fails("--topic r.m: column r.m does not exist", "(a, n)")
	on(t, db.URL(), "adopt", "other", "--topic", "n", "--payload", "n", "--headers", "now()").fails("--headers now()", "cannot cast")
	// The page's own examples.
	on(t, db.URL(), "adopt", "jobs", "--remove", "--yes").ok()
	db.Exec(t, "CREATE TABLE events (id bigserial, name text, entity_id int, data jsonb, sent_at timestamptz); INSERT INTO events (name, entity_id, data, sent_at) VALUES ('a', 1, '1', now()), ('b', 1, '2', NULL); DROP TABLE jobs; CREATE TABLE jobs (kind text, args json, run_at timestamptz, state text)")
	on(t, db.URL(), "adopt", "events", "--topic", "'events.' || r.name", "--key", "r.entity_id", "--payload", "r.data", "--where", "r.sent_at IS NULL", "--order", "r.id", "--backfill", "--yes").ok()
	if got := logged(t, db); !strings.HasSuffix(got, "\nevents.b 1 2") {
		t.Errorf("messages:\n%s", got)
	}
	on(t, db.URL(), "adopt", "jobs", "--topic", "'jobs.' || r.kind", "--payload", "args", "--deliver-at", "run_at", "--where", "r.state = 'new'", "--yes").ok()
	on(t, db.URL(), "adopt", "other", "--topic", "n); SELECT (1", "--payload", "n").fails("--topic n); SELECT (1:")
}

// A row that is written over makes no message, whatever the statement is called, and one that is inserted makes one.
func TestAdoptTakesInsertsAlone(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "CREATE TABLE events (id int PRIMARY KEY, name text, data jsonb)")
	on(t, db.URL(), "adopt", "events", "--topic", "name", "--payload", "data", "--yes").ok()
	db.Exec(t, `INSERT INTO events VALUES (1, 'first', '1');
		UPDATE events SET name = 'updated' WHERE id = 1;
		INSERT INTO events VALUES (1, 'over', '2'), (2, 'second', '3') ON CONFLICT (id) DO UPDATE SET name = excluded.name, data = excluded.data;
		INSERT INTO events VALUES (1, 'nothing', '4'), (3, 'third', '5') ON CONFLICT (id) DO NOTHING;
		DELETE FROM events`)
	if got, want := logged(t, db), "first - 1\nsecond - 3\nthird - 5"; got != want {
		t.Errorf("messages:\n%s\nwant:\n%s", got, want)
	}
}
