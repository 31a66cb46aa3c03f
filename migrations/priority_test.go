package migrations

import (
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// enqueue and enqueue_bytes tell who gives a bad priority what is right. A plain INSERT may give any: relays take the nearest.
func TestPriorityIsChecked(t *testing.T) {
	db := pgtest.New(t)
	conn := db.Conn(t)
	role := db.Role(t, "app", "")
	exec(t, conn, AppGrants(role))
	app := connect(t, db.RoleURL(role))
	for _, call := range []string{`enqueue('a', '1'`, `enqueue_bytes('a', 'x'`} {
		for given, want := range map[string]int{``: 2, `, priority => NULL`: 2, `, priority => 1`: 1, `, priority => 2`: 2, `, 'k', NULL, NULL, 4`: 4} {
			id := one[int64](t, app, `SELECT postrider.`+call+given+`)`)
			if got := one[int](t, conn, `SELECT priority FROM postrider.outbox WHERE id = $1`, id); got != want {
				t.Errorf("%s%s): priority %d, want %d", call, given, got, want)
			}
		}
		for _, bad := range []string{"0", "7", "-1", "100000"} {
			refused(t, app, "22023 priority "+bad+": must be from 1 (first) to 4 (last); 2 is the default", `SELECT postrider.`+call+`, priority => `+bad+`)`)
		}
	}
	exec(t, app, `INSERT INTO postrider.outbox (topic, payload, priority) VALUES ('a', '1', 7)`)
}

// A build before the schema had priorities registers no more.
func TestOlderRelaysAreRefused(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	refused(t, conn, `55000 relay "host" (version v1) is of an older build than the schema postrider`,
		`INSERT INTO postrider.relays (incarnation, name, version, declared) VALUES (gen_random_uuid(), 'host', 'v1', '{}')`)
	exec(t, conn, `INSERT INTO postrider.relays (incarnation, name, version, schema) VALUES (gen_random_uuid(), 'host', 'v1', $1)`, Version)
}
