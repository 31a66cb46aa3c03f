package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// What ORMs send, by a role that may enqueue and nothing else, has the effect that docs/enqueue.md tells.
func TestWhatORMsSend(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	app := db.Role(t, "shop", "")
	db.Exec(t, runCommand(t, nil, "", "grants", "--app", app).ok().out)
	conn, err := pgx.Connect(t.Context(), db.RoleURL(app))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for statement, want := range map[string]string{
		`SELECT postrider.enqueue('a.b', CAST('{}' AS jsonb), key => '42')`:                                                         "",
		`INSERT INTO postrider.outbox (topic, payload) VALUES ('a.b', '{}') RETURNING id`:                                           "",
		`INSERT INTO postrider.outbox (topic, payload) VALUES ('a.b', '{}') RETURNING *`:                                            "permission denied for table outbox",
		`INSERT INTO postrider.outbox (topic, payload) VALUES ('a.b', '{}') RETURNING id, created_at`:                               "permission denied for table outbox",
		`INSERT INTO postrider.outbox ("id", "topic", "key", "payload", "headers") VALUES (DEFAULT, 'a.b', DEFAULT, '{}', DEFAULT)`: "permission denied for table outbox",
		`INSERT INTO postrider.outbox ("topic", "key", "payload", "headers") VALUES ('a.b', DEFAULT, '{}', DEFAULT)`:                "",
		`INSERT INTO postrider.outbox ("created_at", "topic", "payload") VALUES (DEFAULT, 'a.b', '{}')`:                             "permission denied for table outbox",
		`SELECT postrider.enqueue('a.b', '{}', key => 42)`:                                                                          "does not exist",
		`SELECT postrider.enqueue('a.b', '{}', key => gen_random_uuid())`:                                                           "does not exist",
		`INSERT INTO postrider.outbox (topic, key, payload) VALUES ('a.b', 42, '{}'), ('a.b', gen_random_uuid(), '{}')`:             "",
		`SELECT postrider.enqueue('a.b', '{}', headers => 'null')`:                                                                  "headers_are_a_flat_object_of_strings",
		`SELECT postrider.enqueue('a.b', '{}', headers => NULL)`:                                                                    "",
		`SELECT postrider.enqueue('a.b', '{}', headers => '{"n": 1}')`:                                                              "headers_are_a_flat_object_of_strings",
		`SELECT postrider.enqueue('a.b', 'null')`:                                                                                   "",
		`INSERT INTO postrider.outbox (topic, payload, body) VALUES ('a.b', 'null', 'x')`:                                           "exactly_one_of_payload_and_body",
		`INSERT INTO postrider.outbox (topic, payload, body) VALUES ('a.b', NULL, 'x')`:                                             "",
		`SELECT postrider.enqueue('a.b', '{"1","2"}')`:                                                                              "invalid input syntax for type json",
		`SELECT postrider.enqueue('a.b', 'text')`:                                                                                   "invalid input syntax for type json",
	} {
		_, err := conn.Exec(t.Context(), statement)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", statement, err, want)
		}
	}
}
