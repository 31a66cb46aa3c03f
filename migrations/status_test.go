package migrations

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// differences lists subscriptions that the view and an exact look at each tell different things of.
const differences = `SELECT v.name, concat_ws(' ', v.lag_messages, b.oldest, v.segments_held, v.lag_more), concat_ws(' ', b.messages, b.oldest, b.segments, false)
	FROM postrider.subscription_status v CROSS JOIN LATERAL public.backlog(v.name) b
	JOIN (SELECT name, oldest FROM postrider.backlogs()) l USING (name)
	WHERE (v.lag_messages, v.segments_held, v.lag_more, l.oldest) IS DISTINCT FROM (b.messages, b.segments, false, b.oldest)`

// exact makes the function that looks at each subscription.
func exact(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	text, err := os.ReadFile("testdata/backlog.sql")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, string(text))
}

func differ(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	rows, err := conn.Query(t.Context(), differences)
	if err != nil {
		t.Fatal(err)
	}
	var name, is, want string
	if _, err := pgx.ForEachRow(rows, []any{&name, &is, &want}, func() error {
		t.Errorf("subscription %s: got %s, want %s", name, is, want)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// What is looked up for all at once is what a look at each would tell, wherever cursors are, unless too many are far behind.
func TestStatusOfAllIsThatOfEach(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	db := pgtest.New(t)
	conn, old := db.Conn(t), db.Conn(t)
	exact(t, conn)
	patterns := []string{"{a}", "{b.c}", "{a,b.*}", "{>}", "{b.>,nothing}", "{none}", "{a,a}", "{b.*,b.c}"}
	open := begin(t, old)
	enqueue(t, open, "a")
	for round := range 6 { // times eight: as many as are looked at one by one
		for i, p := range patterns {
			exec(t, conn, `SELECT postrider.subscribe($1, $2::text::text[], 'stdout:', start => $3)`, fmt.Sprintf("s%d-%d", round, i), p, []string{"now", "earliest"}[random.IntN(2)])
		}
		for range random.IntN(4) {
			exec(t, conn, `INSERT INTO postrider.outbox (topic, payload, segment) SELECT $1, '1', $2::int FROM generate_series(1, $3)`,
				[]string{"a", "b.c", "b.d", "c"}[random.IntN(4)], random.IntN(16), 1+random.IntN(3))
		}
		if round == 3 {
			commit(t, open)
		}
		for range 3 {
			exec(t, conn, `UPDATE postrider.cursors SET base = CASE WHEN $2 THEN pg_current_snapshot() ELSE base END,
				target = CASE WHEN $3 THEN pg_current_snapshot() END, after_id = CASE WHEN $3 THEN $4::bigint END,
				done = CASE WHEN $5 THEN int8multirange(int8range($4::bigint + 1, $4::bigint + 3)) ELSE '{}' END WHERE subscription = $1`,
				fmt.Sprintf("s%d-%d", random.IntN(round+1), random.IntN(len(patterns))), random.IntN(2) == 0, random.IntN(2) == 0, random.IntN(20), random.IntN(3) == 0)
		}
		if round > 1 {
			exec(t, conn, `INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload)
				SELECT $1, id, 'dead', created_at, topic, payload FROM postrider.outbox ORDER BY random() LIMIT 2 ON CONFLICT DO NOTHING`,
				fmt.Sprintf("s%d-%d", random.IntN(round), random.IntN(len(patterns))))
			exec(t, conn, `UPDATE postrider.subscriptions SET topics = '{b.c}' WHERE name = $1`, fmt.Sprintf("s%d-%d", random.IntN(round), random.IntN(len(patterns))))
		}
		differ(t, conn)
	}
}

// Ten thousand subscriptions at as many places, two of them far behind many messages.
func TestStatusOfTenThousand(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	for _, sql := range []string{
		`INSERT INTO postrider.outbox (topic, payload, xid) SELECT 'a.' || i % 100, '1', '3'::xid8 FROM generate_series(1, 300000) i`,
		`INSERT INTO postrider.outbox (topic, payload, xid) SELECT 'a.' || i % 100, '1', (i * 5 + 100)::text::xid8 FROM generate_series(1, 1000) i`,
		`INSERT INTO postrider.subscriptions (name, topics, sink, started)
			SELECT 's' || i, CASE WHEN i % 10 = 0 THEN '{>}'::text[] ELSE ARRAY['a.' || i % 200] END, 'stdout:', '3:3:' FROM generate_series(1, 10000) i
			UNION ALL VALUES ('far', '{a.7}'::text[], 'stdout:', '3:3:'::pg_snapshot), ('farther', '{>}', 'stdout:', '3:3:')`,
		`INSERT INTO postrider.cursors (subscription, base) SELECT 's' || i, ((i / 2 + 100) || ':' || (i / 2 + 100) || ':')::pg_snapshot FROM generate_series(1, 10000) i
			UNION ALL VALUES ('far', '3:3:'::pg_snapshot), ('farther', '3:3:')`,
	} {
		exec(t, conn, sql)
	}
	for _, analyze := range []string{"", "ANALYZE"} { // a fresh database, too
		exec(t, conn, analyze)
		if rows := one[int](t, conn, `SELECT count(*) FROM postrider.subscription_status`); rows != 10002 {
			t.Errorf("%d subscriptions are shown, want 10002", rows)
		}
		const most = 100_000 // a look at each by itself, in sixteen segments, takes more than three times as many
		if n := blocks(t, conn, `SELECT count(lag_messages) FROM postrider.subscription_status`); n > most {
			t.Errorf("%q: %d blocks were looked at, want %d at most", analyze, n, most)
		}
	}
	if lag := one[int64](t, conn, `SELECT lag_messages FROM postrider.subscription_status WHERE NOT lag_more AND name = 's9000'`); lag != 101 {
		t.Errorf("s9000 has a lag of %d, want 101", lag)
	}
	for _, name := range []string{"far", "farther"} {
		if !one[bool](t, conn, `SELECT lag_more AND lag_messages > 0 AND lag_seconds > 0 AND segments_held > 0 FROM postrider.subscription_status WHERE name = $1`, name) {
			t.Errorf("%s has no lag, or was counted to its end", name)
		}
	}
}

// A thousand subscriptions that stand still far behind, each with more dead letters than are counted, cost no more than a glance: what is told
// of each is less than there is, and says so.
func TestStatusOfAThousandFarBehind(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	for _, sql := range []string{
		`INSERT INTO postrider.outbox (topic, payload, xid) SELECT 'a.' || i % 100, '1', (i / 20 + 100)::text::xid8 FROM generate_series(1, 60000) i`,
		`INSERT INTO postrider.subscriptions (name, topics, sink, started) SELECT 's' || i, ARRAY['a.' || i % 100], 'stdout:', '3:3:' FROM generate_series(1, 1000) i`,
		`INSERT INTO postrider.cursors (subscription, base) SELECT 's' || i, ((i + 100) || ':' || (i + 100) || ':')::pg_snapshot FROM generate_series(1, 1000) i`,
		`INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload)
			SELECT 's' || i, j, CASE WHEN j % 2 = 0 THEN 'dead' ELSE 'held' END, now(), 'a', '1' FROM generate_series(1, 1000) i, generate_series(1, 50) j`,
	} {
		exec(t, conn, sql)
	}
	for _, analyze := range []string{"", "ANALYZE"} {
		exec(t, conn, analyze)
		if n := one[int](t, conn, `SELECT count(*) FROM postrider.subscription_status
			WHERE lag_more AND lag_messages > 0 AND lag_seconds > 0 AND segments_held > 0 AND parked_more AND (dead, held) = (20, 20)`); n != 1000 {
			t.Errorf("%q: %d subscriptions have a lag and dead letters, and more of them, want 1000", analyze, n)
		}
		const most = 100_000
		if n := blocks(t, conn, `SELECT count(lag_messages) FROM postrider.subscription_status`); n > most {
			t.Errorf("%q: %d blocks were looked at, want %d at most", analyze, n, most)
		}
	}
}

// Of a few that are far behind ten thousand messages are counted each, of many ten thousand in all.
func TestStatusSharesWhatItCounts(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	exec(t, conn, `INSERT INTO postrider.outbox (topic, payload, xid) SELECT 'a', '1', (i / 20 + 100)::text::xid8 FROM generate_series(1, 20000) i`)
	for _, n := range []int{1, 4, 20} {
		exec(t, conn, `INSERT INTO postrider.subscriptions (name, topics, sink, started) SELECT 's' || i, '{>}', 'stdout:', '3:3:' FROM generate_series(1, $1::int) i ON CONFLICT DO NOTHING`, n)
		exec(t, conn, `INSERT INTO postrider.cursors (subscription, base) SELECT 's' || i, '3:3:' FROM generate_series(1, $1::int) i ON CONFLICT DO NOTHING`, n)
		want := 10_000
		if n > 4 {
			want /= n
		}
		if got := one[int](t, conn, `SELECT count(*) FROM postrider.subscription_status WHERE lag_more AND lag_messages = $1`, want); got != n {
			t.Errorf("%d of %d have a lag of %d, and more", got, n, want)
		}
	}
}

// blocks returns how many blocks a statement looks at, in its functions too: the same whatever the machine does beside.
func blocks(t *testing.T, conn *pgx.Conn, sql string) int {
	t.Helper()
	var explained []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	plan := one[string](t, conn, "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+sql)
	if err := json.Unmarshal([]byte(plan), &explained); err != nil {
		t.Fatal(err)
	}
	return explained[0].Plan.Hit + explained[0].Plan.Read
}
