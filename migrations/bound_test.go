package migrations

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// limited returns a database whose limit is the smallest that there is, and an application's connection.
func limited(t *testing.T) (admin, app *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t)
	admin = db.Conn(t)
	role := db.Role(t, "app", "")
	exec(t, admin, AppGrants(role))
	exec(t, admin, `CREATE TABLE public.stored (payload jsonb, body bytea, key text, headers jsonb)`)
	exec(t, admin, `GRANT ALL ON public.stored TO `+pgx.Identifier{role}.Sanitize())
	exec(t, admin, `SELECT postrider.set_max_message(65536)`)
	return admin, connect(t, db.RoleURL(role))
}

const (
	plain     = `(SELECT jsonb_build_object('a', repeat('x', 70000)))`
	scattered = `(SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 2000) i)`
	escaped   = `(SELECT to_jsonb(repeat(E'\x01', 12000)))`
	absurd    = `(SELECT jsonb_agg('1e131071'::jsonb) FROM generate_series(1, 40))`
	fractions = `(SELECT jsonb_agg(round(1e131071::numeric, 16383)) FROM generate_series(1, 40))`
	unwritten = `(SELECT jsonb_agg('1e131071'::jsonb) FROM generate_series(1, 9000))`
	nested    = `(SELECT (repeat('[', 3000) || '1e131071' || repeat(']', 3000))::jsonb)`
	many      = `(SELECT jsonb_object_agg(i, 1) FROM generate_series(1, 8000) i)`
	fits      = `(SELECT jsonb_build_object('a', repeat('x', 65000)))`
	fitsMany  = `(SELECT jsonb_object_agg(i, 1) FROM generate_series(1, 5000) i)`
)

// Whatever way a message comes, and however its size hides.
func TestTooLargeIsRefusedAtInsert(t *testing.T) {
	_, app := limited(t)
	const too = "54000 the message has "
	for _, content := range []string{plain, scattered, escaped, absurd, fractions, nested, many} {
		for _, way := range []string{
			`INSERT INTO postrider.outbox (topic, payload) VALUES ('a', ` + content + `)`,
			`INSERT INTO postrider.outbox (topic, payload) SELECT 'a', p.p FROM ` + content + ` p (p)`,
			`SELECT postrider.enqueue('a', ` + content + `)`,
		} {
			refused(t, app, too, way)
		}
		// Compressed, in its line or out of it, it is a fraction of what it will be.
		exec(t, app, `INSERT INTO public.stored (payload) VALUES (`+content+`)`)
		refused(t, app, too, `INSERT INTO postrider.outbox (topic, payload) SELECT 'a', payload FROM public.stored`)
		exec(t, app, `TRUNCATE public.stored`)
	}
	refused(t, app, "54000 the message has more than 1073741823 bytes: at most 65536 are allowed",
		`INSERT INTO postrider.outbox (topic, payload) VALUES ('a', `+unwritten+`)`)
	const bytes = `convert_to(repeat('x', 65537), 'UTF8')`
	refused(t, app, "54000 the message has 65537 bytes: at most 65536 are allowed", `INSERT INTO postrider.outbox (topic, body) VALUES ('a', `+bytes+`)`)
	refused(t, app, too, `SELECT postrider.enqueue_bytes('a', `+bytes+`)`)
	refused(t, app, too, `SELECT postrider.enqueue('a', '1', repeat('k', 65536))`)
	refused(t, app, too, `SELECT postrider.enqueue_bytes('a', '\x00', repeat('k', 65536))`)
	refused(t, app, too, `INSERT INTO postrider.outbox (topic, key, payload) SELECT 'a', repeat('k', 40000), jsonb_build_object('a', repeat('x', 40000))`)
	for _, headers := range []string{`repeat('x', 70000)`, `repeat(E'\x01', 12000)`} {
		refused(t, app, "54000 the headers have ", `SELECT postrider.enqueue('a', '1', headers => jsonb_build_object('a', `+headers+`))`)
		exec(t, app, `INSERT INTO public.stored (headers) VALUES (jsonb_build_object('a', `+headers+`))`)
		refused(t, app, "54000 the headers have ", `INSERT INTO postrider.outbox (topic, payload, headers) SELECT 'a', '1', headers FROM public.stored`)
		exec(t, app, `TRUNCATE public.stored`)
	}
	if n := one[int](t, app, `SELECT count(id) FROM postrider.outbox`); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
	for _, content := range []string{fits, fitsMany, `'1e16000'`, `'null'`} {
		exec(t, app, `INSERT INTO postrider.outbox (topic, payload, headers) VALUES ('a', `+content+`, jsonb_build_object('a', repeat('x', 65000)))`)
	}
	exec(t, app, `INSERT INTO postrider.outbox (topic, body) VALUES ('a', convert_to(repeat('x', 65536), 'UTF8'))`)
	exec(t, app, `INSERT INTO postrider.outbox (topic, key, payload) VALUES ('a', repeat('k', 65000), '1')`)
}

// What is small in the table is not written out to be measured, where it cannot be too large: for every limit.
func TestSmallRowsAreWithinTheLimitToo(t *testing.T) {
	admin, app := limited(t)
	for limit, numbers := range map[int]int{65536: 0, 1 << 20: 7, 16 << 20: 113} {
		exec(t, admin, `SELECT postrider.set_max_message($1)`, limit)
		const insert = `INSERT INTO postrider.outbox (topic, payload) SELECT 'a', coalesce(jsonb_agg(round(1e131071::numeric, 16383)), '[]') FROM generate_series(1, $1)`
		exec(t, app, insert, numbers)
		refused(t, app, "54000 the message has", insert, numbers+1)
	}
	// What another table has compressed seems to be small, and is not.
	exec(t, app, `INSERT INTO public.stored (payload) SELECT jsonb_agg('1e131071'::jsonb) FROM generate_series(1, 200)`)
	if n := one[int](t, app, `SELECT pg_column_size(payload) FROM public.stored`); n > 1000 {
		t.Fatalf("it takes %d bytes there", n)
	}
	refused(t, app, "54000 the message has 26214800 bytes", `INSERT INTO postrider.outbox (topic, payload) SELECT 'a', payload FROM public.stored`)
}

func TestTooLargeIsRefusedByCopy(t *testing.T) {
	_, app := limited(t)
	for _, c := range []struct {
		number int
		ok     bool
	}{{500, true}, {30_000, false}} {
		line := fmt.Sprintf("a\t[%s1]\n", strings.Repeat("1e5, ", c.number))
		_, err := app.PgConn().CopyFrom(t.Context(), bytes.NewReader([]byte(line)), `COPY postrider.outbox (topic, payload) FROM STDIN`)
		if c.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "the message has") {
			t.Errorf("%d numbers: %v", c.number, err)
		}
	}
}

func TestMaxMessage(t *testing.T) {
	db := pgtest.New(t)
	admin := db.Conn(t)
	if n := one[int64](t, admin, `SELECT postrider.max_message()`); n != 16<<20 {
		t.Errorf("the limit of a new schema is %d, want 16 MiB", n)
	}
	for _, bytes := range []string{"NULL", "0", "-1", "65535", "268435457", "9223372036854775807"} {
		refused(t, admin, "must be from 65536 (64 KiB) to 268435456 bytes (256 MiB)", `SELECT postrider.set_max_message(`+bytes+`)`)
	}
	role := db.Role(t, "relay", "")
	exec(t, admin, RelayGrants(role))
	relay := connect(t, db.RoleURL(role))
	// A session that has inserted already goes by the new limit at once.
	large := `SELECT postrider.enqueue('a', jsonb_build_object('a', repeat('x', 100000)))`
	exec(t, admin, large)
	if !one[bool](t, relay, `SELECT postrider.set_max_message(65536)`) || one[bool](t, relay, `SELECT postrider.set_max_message(65536)`) {
		t.Error("set_max_message does not say what it changed")
	}
	refused(t, admin, "at most 65536 are allowed", large)
	exec(t, relay, `SELECT postrider.set_max_message(268435456)`)
	exec(t, admin, large)
	app := db.Role(t, "app", "")
	exec(t, admin, AppGrants(app))
	refused(t, connect(t, db.RoleURL(app)), "42501", `SELECT postrider.set_max_message(65536)`)
}

// Drivers choose an encoding by the types of parameters: a domain's would be strange to them.
func TestDriversKnowThePayloadsType(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	exec(t, conn, `INSERT INTO postrider.outbox (topic, payload) VALUES ($1, $2)`, "a", map[string]any{"n": 1})
	exec(t, conn, `INSERT INTO postrider.outbox (topic, body) VALUES ($1, $2)`, "a", []byte{0, 255, '\\'})
}

// What is larger than the limit allows and in the table already moves with it.
func TestRebaseTakesWhatIsTooLarge(t *testing.T) {
	from, to := pgtest.New(t), pgtest.Empty(t)
	conn := from.Conn(t)
	exec(t, conn, `INSERT INTO postrider.outbox (topic, payload, headers) VALUES ('a', `+plain+`, jsonb_build_object('a', repeat('x', 70000)))`)
	exec(t, conn, `SELECT postrider.set_max_message(65536)`)
	copyInto(t, from, to)
	there := to.Conn(t)
	if n := one[int](t, there, `SELECT postrider.rebase()`); n != 1 {
		t.Errorf("%d messages are there, want 1", n)
	}
	refused(t, there, "54000 the message has", `INSERT INTO postrider.outbox (topic, payload) VALUES ('a', `+plain+`)`)
	exec(t, there, `SET session_replication_role = replica`) // as logical replication applies
	exec(t, there, `INSERT INTO postrider.outbox (topic, payload) VALUES ('a', `+plain+`)`)
}

// What constraints call needs no grants.
func TestBoundNeedsNoGrants(t *testing.T) {
	db := pgtest.New(t)
	admin := db.Conn(t)
	app, relay := db.Role(t, "app", ""), db.Role(t, "relay", "")
	exec(t, admin, AppGrants(app))
	exec(t, admin, RelayGrants(relay))
	client := connect(t, db.RoleURL(app))
	enqueue(t, client, "a")
	exec(t, client, `SELECT postrider.enqueue('a', `+scattered+`, headers => '{"a": "b"}')`)
	exec(t, connect(t, db.RoleURL(relay)), `SELECT postrider.set_max_message(1048576)`)
}
