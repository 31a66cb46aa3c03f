package torture

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
)

// A save whose answer got lost is repeated: its results are there already, and so are its attempts, which are written once. The judge
// compares them by the transaction that wrote them.
func TestRepeatedSavesAreOneResult(t *testing.T) {
	db := pgtest.New(t)
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	conn := db.Conn(t)
	save := func(run int) {
		t.Helper()
		_, err := conn.Exec(t.Context(), `WITH results AS (
				INSERT INTO postrider.results (subscription, id, created_at, result) VALUES ('s', 1, 'epoch', format('{"run": %s}', $1::int)::json)
				ON CONFLICT (id, subscription, created_at, segment) DO UPDATE SET result = excluded.result, kept_at = excluded.kept_at)
			INSERT INTO postrider.attempts (subscription, id, created_at, attempt, started_at, took, outcome)
			VALUES ('s', 1, 'epoch', $1, now(), '1 s', 'accepted') ON CONFLICT DO NOTHING`, run)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA IF NOT EXISTS torture; "+ledgerSchema); err != nil {
		t.Fatal(err)
	}
	for _, run := range []int{1, 2} {
		for range 2 {
			save(run)
		}
		want, got := [2]int{run, run}, [2]int{}
		err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM torture.results), (SELECT count(*) FROM torture.results JOIN torture.accepted USING (id, xid))`).Scan(&got[0], &got[1])
		if err != nil || got != want {
			t.Errorf("after run %d, saved twice: %v results and those with their attempts, want %v (%v)", run, got, want, err)
		}
	}
}

// What schedules and events write goes on, and may commit late: nobody holds a segment for that.
func TestSegmentsAreHeldForProducers(t *testing.T) {
	db := pgtest.New(t)
	if _, err := migrations.Up(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `SELECT postrider.subscribe(name, '{>}', 'stdout:') FROM unnest('{s,ticks,alerts}'::text[]) name`)
	for topic, want := range map[string]string{"tick.minute": "", "$postrider.dead": "", "orders.created": "s holds segment 0 for orders.created"} {
		db.Exec(t, fmt.Sprintf(`TRUNCATE postrider.outbox; SET session_replication_role = replica; INSERT INTO postrider.outbox (topic, payload, segment, event) VALUES ('%s', '1', 0, %t OR NULL)`,
			topic, strings.HasPrefix(topic, "$")))
		rows, err := db.Conn(t).Query(t.Context(), segmentsHeld, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		held, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if got := strings.Join(held, "; "); err != nil || got != want {
			t.Errorf("%s: %q, want %q (%v)", topic, got, want, err)
		}
	}
}
