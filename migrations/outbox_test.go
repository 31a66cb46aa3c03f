package migrations

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

func TestConstraintsNameTheRule(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	const insert = `INSERT INTO postrider.outbox (topic, payload, body, headers) VALUES `
	for values, want := range map[string]string{
		`('a b', '1', NULL, NULL)`:               "topic_is_dot_separated_tokens",
		`('a', '1', 'x', NULL)`:                  "exactly_one_of_payload_and_body",
		`('a', NULL, NULL, NULL)`:                "exactly_one_of_payload_and_body",
		`(NULL, '1', NULL, NULL)`:                "topic",
		`('a', '1', NULL, '[]')`:                 "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, 'null')`:               "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, '"x"')`:                "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, '{"a": 1}')`:           "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, '{"a": null}')`:        "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, '{"a": ["x"]}')`:       "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, '{"a": []}')`:          "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, '{"a": {}}')`:          "headers_are_a_flat_object_of_strings",
		`('a', '1', NULL, '{"a":"x","b":true}')`: "headers_are_a_flat_object_of_strings",
	} {
		refused(t, conn, want, insert+values)
	}
	for _, values := range []string{
		`('a', 'null', NULL, NULL)`, `('a', NULL, '', NULL)`, `('a', '1', NULL, '{}')`, `('a', '1', NULL, '{"a": "x", "b": ""}')`,
	} {
		exec(t, conn, insert+values)
	}

	subscribe(t, conn, "one", "now", ">")
	const sub = `SELECT postrider.subscribe(`
	for arguments, want := range map[string]string{
		`'One', '{a}', 'stdout:'`:                       "name_is_lower_case_letters_digits_dashes",
		`'', '{a}', 'stdout:'`:                          "name_is_lower_case_letters_digits_dashes",
		`'two', '{a.>.b}', 'stdout:'`:                   "topics_are_patterns",
		`'two', '{}', 'stdout:'`:                        "topics_are_patterns",
		`'two', NULL, 'stdout:'`:                        "topics",
		`'two', '{a}', 'nowhere'`:                       "sink_is_a_url",
		`'two', '{a}', 'stdout:', '[1]'`:                "settings_are_an_object",
		`'two', '{a}', 'htps://host/hook'`:              `22023 sink: the scheme "htps" is unknown; known are amqp, amqps, http, https, kafka, kafkas, mqtt, mqtts, nats, postgres, postgresql, pubsub, pull, redis, rediss, sns, sql, sqs, stdout, tls`,
		`'one', '{a}', 'gopher://host'`:                 `22023 sink: the scheme "gopher" is unknown`,
		`'two', '{a}', 'stdout:', start => 'soon'`:      `22023 start "soon": must be now, earliest or a time such as`,
		`'two', '{a}', 'stdout:', start => NULL`:        `22023 start "<NULL>": must be now, earliest or a time such as`,
		`'two', '{a}', 'stdout:', start => ''`:          `22023 start "": must be`,
		`'two', '{a}', 'stdout:', start => '2026-13-1'`: `22023 start "2026-13-1": must be`,
	} {
		refused(t, conn, want, sub+arguments+`)`)
	}
	refused(t, conn, "state_is_known", `UPDATE postrider.subscriptions SET state = 'off'`)
	refused(t, conn, `22023 sink: the scheme "htps"`, `UPDATE postrider.subscriptions SET sink = 'htps://host/hook'`)
	refused(t, conn, "target_goes_with_after_id", `UPDATE postrider.cursors SET after_id = 1`)
	refused(t, conn, "state_is_known", `INSERT INTO postrider.parked (subscription, id, state, created_at, topic) VALUES ('one', 1, 'lost', now(), 'a')`)
}

func TestEnqueueFunctions(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	id := one[int64](t, conn, `SELECT postrider.enqueue('a.b', '{"n": 1}', 'k', '{"h": "v"}', '2030-01-01Z')`)
	got := one[string](t, conn, `SELECT concat_ws('|', topic, key, payload, body, headers, extract(epoch FROM deliver_at)::bigint, xid = pg_snapshot_xmin(pg_current_snapshot()))
		FROM postrider.outbox WHERE id = $1`, id)
	if want := `a.b|k|{"n": 1}|{"h": "v"}|1893456000|f`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	id = one[int64](t, conn, `SELECT postrider.enqueue_bytes('a.b', '\x00ff', headers => '{}')`)
	if got := one[string](t, conn, `SELECT concat_ws('|', topic, key, payload, body, headers, deliver_at) FROM postrider.outbox WHERE id = $1`, id); got != `a.b|\x00ff|{}` {
		t.Errorf("got %s", got)
	}
}

// A message carries its top-level transaction, whatever savepoint it was inserted in.
func TestXidIsTopLevel(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	tx := begin(t, conn)
	inner := begin(t, tx)
	enqueue(t, inner, "a")
	commit(t, inner)
	if !one[bool](t, tx, `SELECT bool_and(xid = pg_current_xact_id()) FROM postrider.outbox`) {
		t.Error("xid is not the transaction's")
	}
	commit(t, tx)
}

func TestSegmentLength(t *testing.T) {
	db := pgtest.New(t)
	conn := db.Conn(t)
	for _, length := range []string{`interval '0'`, `interval '1.5 seconds'`, `interval '-1 hour'`, `NULL`,
		`interval '100000000 years'`, `interval '10 years 1 month'`, `interval '178000000 years'`, `interval '-178000000 years'`} {
		refused(t, conn, "must be a whole number of seconds, from 1 second to 10 years", `SELECT postrider.set_segment_length(`+length+`)`)
	}
	app := db.Role(t, "app", "")
	exec(t, conn, AppGrants(app))
	client := connect(t, db.RoleURL(app))
	for _, c := range []struct {
		length  string
		seconds int
	}{{"", 7200}, {"1 second", 1}, {"10 years", 315576000}, {"3 days", 259200}} {
		if c.length != "" {
			exec(t, conn, `SELECT postrider.set_segment_length($1::interval)`, c.length)
		}
		if n := one[int](t, conn, `SELECT segment_seconds FROM postrider.source`); n != c.seconds {
			t.Errorf("the source says %d s, want %d", n, c.seconds)
		}
		plan := explain(t, client, `INSERT INTO postrider.outbox (topic, payload) VALUES ('a', '1') RETURNING id`)
		if want := fmt.Sprintf("/ '%d'::double precision", c.seconds); strings.Contains(plan, "current_segment") || !strings.Contains(plan, want) {
			t.Errorf("the default segment is not inlined with %s:\n%s", want, plan)
		}
		id := enqueue(t, client, "a")
		if !one[bool](t, conn, `SELECT abs(segment - floor(extract(epoch FROM created_at) / $2::int)::bigint % 16) IN (0, 1, 15) FROM postrider.outbox WHERE id = $1`, id, c.seconds) {
			t.Errorf("message %d is in the wrong segment for a length of %d s", id, c.seconds)
		}
	}
}

// Whatever the clock says, there is a segment for the row: before 1970, in the last year that PostgreSQL knows, and at any length.
func TestSegmentOfAnyTime(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	for _, length := range []string{"1 second", "2 hours", "10 years"} {
		exec(t, conn, `SELECT postrider.set_segment_length($1::interval)`, length)
		body := one[string](t, conn, `SELECT pg_get_function_sqlbody('postrider.current_segment()'::regprocedure)`)
		var was int64 = -1
		for _, at := range []string{"4713-01-02 BC", "1901-12-13", "1969-12-31 23:59:59.5Z", "1970-01-01Z", "2038-01-19 03:14:08Z", "294276-12-31Z"} {
			expression := strings.Replace(strings.TrimPrefix(body, "RETURN "), "statement_timestamp()", "'"+at+"'::timestamptz", 1)
			segment := one[int64](t, conn, `SELECT (`+expression+`)::bigint`)
			if segment < 0 || segment >= Segments {
				t.Errorf("length %s, at %s: segment %d", length, at, segment)
			}
			if strings.HasPrefix(at, "1970") && (segment != 0 || was != Segments-1) {
				t.Errorf("length %s: segment %d, before 1970 %d: want 0 after %d", length, segment, was, Segments-1)
			}
			was = segment
		}
	}
}

// explain returns the verbose plan of a statement.
func explain(t *testing.T, q querier, sql string) string {
	t.Helper()
	rows, err := q.Query(t.Context(), "EXPLAIN (VERBOSE, COSTS off) "+sql)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestNotify(t *testing.T) {
	db := pgtest.New(t)
	conn, listener := db.Conn(t), db.Conn(t)
	app := db.Role(t, "app", "")
	exec(t, conn, AppGrants(app))
	client := connect(t, db.RoleURL(app))
	exec(t, listener, `LISTEN postrider`)
	exec(t, listener, `LISTEN marker`)
	// heard tells what arrives up to a marker that the same session sends afterwards.
	heard := func() (n int) {
		enqueue(t, client, "a")
		exec(t, client, `NOTIFY marker`)
		for {
			got, err := listener.WaitForNotification(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Channel == "marker" {
				return n
			}
			n++
		}
	}
	for _, step := range []struct {
		sql  string
		want int
	}{
		{`SELECT 1`, 0},
		{`SELECT postrider.enable_notify()`, 1},
		{`SELECT postrider.enable_notify()`, 1},
		{`SELECT postrider.disable_notify()`, 0},
		{`SELECT postrider.disable_notify()`, 0},
	} {
		exec(t, conn, step.sql)
		if n := heard(); n != step.want {
			t.Errorf("after %s: %d notifications, want %d", step.sql, n, step.want)
		}
	}
	// It gives up behind an open transaction instead of making applications queue.
	tx := begin(t, client)
	enqueue(t, tx, "a")
	refused(t, conn, "55P03", `SELECT postrider.enable_notify()`)
	commit(t, tx)
}
