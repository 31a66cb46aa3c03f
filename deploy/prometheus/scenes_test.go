package prometheus

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// subscriptions are made before anything happens; each comes into its own trouble later.
var subscriptions = []string{"works", "mail", "unasked", "reports", "down", "misconfigured", "dead", "paused", "rests", "stuck", "unsaved"}

// healthy is a relay all of whose subscriptions work, and what it tells before and after they had something to do.
func healthy(t *testing.T) (r *relay, before, after page) {
	t.Helper()
	r = startRelay(t)
	good, strict := receiver(t, (*httptest.Server).Start), receiver(t, (*httptest.Server).StartTLS)
	for _, name := range subscriptions {
		sink, settings := good, `{}`
		switch name {
		case "mail", "unasked":
			sink = "pull:"
		case "reports", "rests":
			sink = "sql:"
		case "down":
			sink = "http://127.0.0.1:1" // nobody listens there
		case "misconfigured":
			sink = strict // its certificate is nobody's
		case "stuck":
			settings = `{"max_parked": 1, "backoff_initial": "1h"}`
		}
		r.db.Exec(t, "SELECT postrider.subscribe($1, ARRAY[$1 || '.>'], $2, $3::text::jsonb)", name, sink, settings)
	}
	r.db.Exec(t, `SELECT postrider.put_schedule('each_minute', '* * * * *', 'works.planned'), postrider.put_schedule('late', '0 0 1 1 *', 'works.planned', missed => 'skip'), postrider.put_schedule('wrong', '0 0 1 1 *', 'works.planned')`)
	before = r.shows(t, settled(0)...)
	r.db.Exec(t, "SELECT postrider.enqueue(t || '.ok', to_jsonb(g), key => 'k-' || g % 3) FROM unnest(ARRAY['works', 'mail', 'reports', 'dead', 'stuck', 'unsaved']) t, generate_series(1, 20) g")
	r.work(t, "mail", 20)
	conn := r.db.Conn(t)
	for n := 1; n > 0; { // a worker in SQL
		if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), "SELECT count(*) FROM postrider.take('reports', 100)").Scan(&n)
		}); err != nil {
			t.Fatal(err)
		}
	}
	done := time.Now()
	looked := expected{"postrider_status_age_seconds", nil, func(age float64) bool { return age < time.Since(done).Seconds() }}
	return r, before, r.shows(t, append(settled(20), looked)...)
}

// settled is what is to be told when all is delivered, each of so many messages.
func settled(each float64) (list []expected) {
	for _, name := range subscriptions {
		list = append(list, exactly(0, "postrider_lag_messages", "subscription", name), exactly(0, "postrider_subscription_paused", "subscription", name))
		if name != "reports" && name != "rests" {
			list = append(list, exactly(1, "postrider_subscription_owned", "subscription", name))
		}
	}
	if each > 0 {
		list = append(list, above(each-1, "postrider_deliveries_total", "subscription", "works", "outcome", "accepted"), above(each-1, "postrider_deliveries_total", "subscription", "mail", "outcome", "accepted"),
			exactly(each, "postrider_deliveries_total", "subscription", "unsaved", "outcome", "accepted"))
	}
	return append(list, exactly(1, "postrider_ready"), exactly(0, "postrider_schedules_in_trouble"))
}

// troubles makes everything go wrong that a rule is about, as far as it can be made so in a moment, and returns what is told then, and a while later.
func (r *relay) troubles(t *testing.T) (first, later page) {
	t.Helper()
	r.db.Exec(t, "SELECT postrider.enqueue(t, '{}') FROM unnest(ARRAY['down.ok', 'misconfigured.ok']) t, generate_series(1, 200)") // one by itself would be parked
	r.db.Exec(t, "SELECT postrider.enqueue(t, '{}') FROM unnest(ARRAY['down.ok', 'misconfigured.ok', 'dead.bad', 'unasked.ok', 'reports.ok', 'stuck.ok', 'stuck.busy', 'stuck.busy']) t")
	r.db.Exec(t, "SELECT postrider.pause('paused'), postrider.pause('rests'), postrider.subscribe('lacking', '{lacking.>}', 'http://127.0.0.1:1', '{\"options\": {\"secrets\": [\"env:POSTRIDER_SECRET_NOBODY_HAS\"]}}')")
	r.db.Exec(t, "SELECT postrider.enqueue('lacking.ok', '{}')")
	// Progress that cannot be saved.
	r.db.Exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$`)
	r.db.Exec(t, `CREATE TRIGGER refuse BEFORE UPDATE ON postrider.cursors FOR EACH ROW WHEN (OLD.subscription = 'unsaved' AND OLD.base::text <> NEW.base::text) EXECUTE FUNCTION refuse()`)
	r.db.Exec(t, "SELECT postrider.enqueue('unsaved.ok', '{}')")
	// An old transaction, and much that is written after it has begun.
	conn := r.db.Conn(t)
	for _, sql := range []string{"BEGIN", "CREATE TABLE old AS SELECT 1 AS x"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	r.db.Exec(t, "CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 40000)")
	// Old messages in all of the ring, which the paused subscription has not settled.
	r.shows(t, exactly(1, "postrider_subscription_paused", "subscription", "paused"), exactly(0, "postrider_subscription_owned", "subscription", "paused"))
	r.db.Exec(t, "INSERT INTO postrider.outbox (segment, topic, payload, created_at) SELECT g, 'nobody.wants', '{}', now() - interval '3 days' FROM generate_series(0, 15) g")
	r.db.Exec(t, "SELECT postrider.enqueue('paused.ok', '{}'), postrider.enqueue('rests.ok', '{}')")
	older := "UPDATE postrider.outbox SET created_at = created_at - $1::text::interval WHERE topic IN ('reports.ok', 'paused.ok', 'rests.ok', 'down.ok', 'misconfigured.ok', 'lacking.ok')"
	r.db.Exec(t, older, "10 minutes")
	r.db.Exec(t, "UPDATE postrider.schedules SET next_run = now() - interval '1 hour', due = now() - interval '1 hour' WHERE name = 'late'")
	r.db.Exec(t, "UPDATE postrider.schedules SET cron = 'rubbish', due = now() WHERE name = 'wrong'")
	first = r.shows(t, inTrouble(600)...)
	errors, _ := first.of("postrider_saves_total", "result", "error")
	r.db.Exec(t, older, "30 minutes")
	return first, r.shows(t, append(inTrouble(2400), above(errors+3, "postrider_saves_total", "result", "error"))...)
}

func inTrouble(lag float64) []expected {
	return []expected{
		exactly(0, "postrider_ready"), exactly(1, "postrider_subscriptions_unable"),
		exactly(1, "postrider_destination_down", "subscription", "down"), exactly(1, "postrider_destination_misconfigured", "subscription", "misconfigured"),
		exactly(1, "postrider_parked_total", "subscription", "dead", "state", "dead"), exactly(1, "postrider_parked_messages", "subscription", "dead", "state", "dead"),
		exactly(1, "postrider_jobs", "subscription", "unasked", "state", "waiting"), exactly(1, "postrider_intake_stopped", "subscription", "stuck"),
		exactly(1, "postrider_subscription_paused", "subscription", "paused"), exactly(0, "postrider_subscription_owned", "subscription", "lacking"),
		exactly(1, "postrider_subscription_paused", "subscription", "rests"), above(lag, "postrider_lag_seconds", "subscription", "rests"),
		exactly(0, "postrider_subscription_paused", "subscription", "lacking"), above(lag, "postrider_lag_seconds", "subscription", "reports"),
		above(lag, "postrider_lag_seconds", "subscription", "paused"), above(lag, "postrider_lag_seconds", "subscription", "lacking"),
		above(lag, "postrider_lag_seconds", "subscription", "down"), above(lag, "postrider_lag_seconds", "subscription", "misconfigured"),
		above(1, "postrider_saves_total", "result", "error"), above(32<<20, "postrider_slot_wal_bytes"), exactly(16, "postrider_segments", "state", "filled"),
		above(0, "postrider_segments", "state", "overdue"), exactly(16, "postrider_segments_held", "subscription", "paused"),
		exactly(1, "postrider_schedule_misses_total"), exactly(1, "postrider_schedules_in_trouble"),
	}
}
