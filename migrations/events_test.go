package migrations

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// told is what a message says that tells of events.
type told struct {
	Topic        string
	Key          *string
	Event        string
	Subscription string
	Count        int
	Reason       string
	Messages     []struct {
		ID       int64
		Topic    string
		Key      string
		Attempts int
		Reason   string
	}
	Jobs    int
	Workers []lostWorker
	Holders []struct {
		Segments, PID int
		State         string
	}
}

type lostWorker struct {
	Worker      string
	Times, Jobs int
	Reason      string
}

// tell makes messages of events, without waiting for more of what is like something told before, and returns all there are, in their order.
func tell(t *testing.T, q querier) []told {
	t.Helper()
	exec(t, q, "SELECT postrider.tell_events('0')")
	return tellings(t, q)
}

func tellings(t *testing.T, q querier) (list []told) {
	t.Helper()
	rows, err := q.Query(t.Context(), "SELECT topic, key, payload FROM postrider.outbox WHERE event ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	var topic string
	var key *string
	var payload []byte
	if _, err := pgx.ForEachRow(rows, []any{&topic, &key, &payload}, func() error {
		m := told{Topic: topic, Key: key}
		list = append(list, m)
		return json.Unmarshal(payload, &list[len(list)-1])
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func waiting(t *testing.T, q querier) int {
	t.Helper()
	return one[int](t, q, "SELECT count(*) FROM postrider.events")
}

// Nobody but Postrider writes what begins with $, whatever way a message comes in, and whoever sends it.
func TestEventsCannotBeForged(t *testing.T) {
	db := pgtest.New(t)
	admin := db.Conn(t)
	role := db.Role(t, "app", "")
	exec(t, admin, AppGrants(role))
	work(t, admin, "w", `{}`)
	app := connect(t, db.RoleURL(role))
	const why = `23514 topic "$postrider.dead.w": topics that begin with $ are Postrider's own`
	for _, q := range []querier{app, admin} {
		for _, sql := range []string{
			`SELECT postrider.enqueue('$postrider.dead.w', '1')`,
			`SELECT postrider.enqueue_bytes('$postrider.dead.w', '1')`,
			`SELECT postrider.enqueue_unique('$postrider.dead.w', '1', 'k', '1h')`,
			`SELECT * FROM postrider.enqueue_many(ARRAY['a.x', '$postrider.dead.w'], payload => ARRAY['1', '1']::jsonb[])`,
			`INSERT INTO postrider.outbox (topic, payload) VALUES ('$postrider.dead.w', '1')`,
			`INSERT INTO postrider.outbox (topic, body) SELECT '$postrider.dead.w', '1'`,
		} {
			refused(t, q, why, sql)
		}
		refused(t, q, "23514", `SELECT postrider.enqueue('$other', '1')`)
	}
	refused(t, app, "42501", `INSERT INTO postrider.outbox (topic, payload, event) VALUES ('$postrider.dead.w', '1', true)`)
	for _, sql := range []string{
		`SELECT postrider.tell_events()`, `SELECT postrider.note_event('dead', 'w', 'x', NULL)`, `INSERT INTO postrider.events (n, kind, subject) VALUES (1, 'dead', 'w')`,
		`SELECT nextval('postrider.events_lost')`, `SELECT setval('postrider.events_made', 1)`,
	} {
		refused(t, app, "42501", sql)
	}
	refused(t, admin, why, `SELECT postrider.put_schedule('s', '@daily', '$postrider.dead.w')`)
	// A duplicate that is to be enqueued later is refused now.
	subscribe(t, admin, "r", "now", "a.>")
	exec(t, admin, `UPDATE postrider.cursors SET owner = gen_random_uuid()`)
	enqueueUnique(t, admin, "k", "pending:r")
	enqueueUnique(t, admin, "k", "pending:r")
	if one[int](t, admin, `SELECT count(*) FROM postrider.unique_again`) != 1 {
		t.Fatal("a duplicate does not wait")
	}
	refused(t, admin, why, `SELECT postrider.enqueue_unique('$postrider.dead.w', '1', 'k', 'pending:r')`)
}

// All that a wildcard in front matches is applications' own, for relays as for workers, and who names events gets them and only them.
func TestWildcardsMatchNoEvents(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	for name, topics := range map[string]string{"all": "{>}", "three": "{*.*.*}", "some": "{*.>,*.dead.w}", "named": "{$postrider.dead.>}", "any": "{$postrider.*.w}", "both": "{>,$postrider.dead.w}"} {
		exec(t, q, `SELECT postrider.subscribe($1, $2::text::text[], 'sql:', '{"shards": 1}')`, name, topics)
		exec(t, q, `SELECT postrider.subscribe($1 || '-relay', $2::text::text[], 'stdout:')`, name, topics)
	}
	exec(t, q, `INSERT INTO postrider.outbox (topic, payload, event) VALUES ('$postrider.dead.w', '1', true)`)
	for name, want := range map[string]int{"all": 0, "three": 0, "some": 0, "named": 1, "any": 1, "both": 1} {
		if got := len(statuses(t, q, name+"-relay")); got != want {
			t.Errorf("%s: status shows %d messages, want %d", name, got, want)
		}
		if got := one[int](t, q, `SELECT lag_messages FROM postrider.subscription_status WHERE name = $1`, name+"-relay"); got != want {
			t.Errorf("%s: a backlog of %d, want %d", name, got, want)
		}
		if got := len(drainShards(t, q, name)); got != want {
			t.Errorf("%s: workers take %d messages, want %d", name, got, want)
		}
	}
}

// However a message becomes a dead letter, that is told once, with what is known of it; and not if it did not come to that.
func TestDeadLettersAreTold(t *testing.T) {
	s := newShop(t, `{"shards": 1, "max_attempts": 2}`)
	q := s.app
	subscribe(t, q, "alerts", "now", "$postrider.dead.>")
	subscribe(t, q, "r", "now", "a.>")
	list := s.put("a", "b", "c")
	tx := begin(t, s.worker)
	takeJobs(t, tx, "w", 3)
	exec(t, tx, `SELECT postrider.kill('w', $1, 'never')`, list[0])
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := waiting(t, q); n != 0 {
		t.Errorf("%d events of what was rolled back", n)
	}
	for range 6 { // what was rolled back comes one by one
		s.batch(3, func(tx pgx.Tx, jobs []job) {
			for _, j := range jobs {
				switch j.ID {
				case list[0]:
					exec(t, tx, `SELECT postrider.kill('w', $1, 'no such account')`, j.ID)
				case list[1]:
					exec(t, tx, `SELECT postrider.retry('w', $1, 'busy')`, j.ID)
				}
			}
		})
		s.due(list...)
	}
	park(t, q, "r", list[2], "retrying")
	exec(t, q, `UPDATE postrider.parked SET state = 'dead', attempts = 3, reason = 'gone' WHERE subscription = 'r'`)
	exec(t, q, `UPDATE postrider.parked SET attempts = 4, reason = 'said again', state = 'dead' WHERE subscription = 'r'`)
	if n := waiting(t, q); n != 3 {
		t.Fatalf("%d events wait, want 3", n)
	}
	got := tell(t, q)
	if len(got) != 2 || got[0].Topic != "$postrider.dead.w" || got[1].Topic != "$postrider.dead.r" {
		t.Fatalf("told: %+v", got)
	}
	if m := got[0]; m.Event != "dead" || m.Subscription != "w" || *m.Key != "w" || m.Count != 2 || len(m.Messages) != 2 ||
		m.Messages[0].ID != list[0] || m.Messages[0].Reason != "no such account" || m.Messages[0].Topic != "a.x" || m.Messages[0].Key != "a" ||
		m.Messages[1].ID != list[1] || m.Messages[1].Reason != "busy" || m.Messages[1].Attempts != 2 {
		t.Errorf("told of w: %+v", m)
	}
	if m := got[1]; m.Count != 1 || m.Reason != "gone" || m.Messages[0].Attempts != 3 {
		t.Errorf("told of r: %+v", m)
	}
	if n := len(tell(t, q)); n != 2 || waiting(t, q) != 0 {
		t.Errorf("told again: %d", n)
	}
	// What is redriven and dies again is told again.
	exec(t, q, `SELECT postrider.redrive('r')`)
	exec(t, q, `UPDATE postrider.parked SET state = 'dead' WHERE subscription = 'r'`)
	if n := len(tell(t, q)); n != 3 {
		t.Errorf("%d told, want 3", n)
	}
}

// Nothing is written for those who have not asked, nor of what tells of events itself.
func TestEventsNobodyWantsAreNotWritten(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	dies := func(topic string) {
		exec(t, q, `INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload) SELECT 's', nextval('postrider.outbox_id_seq'), 'dead', now(), $1, '1'`, topic)
	}
	subscribe(t, q, "s", "now", "a", "$postrider.dead.s")
	exec(t, q, `UPDATE postrider.subscriptions SET topics = '{>}'`)
	subscribe(t, q, "others", "now", ">", "$postrider.dead.other", "$postrider.paused.>")
	dies("a")
	if n := waiting(t, q); n != 0 || one[int64](t, q, "SELECT last_value FROM postrider.events_n") != 0 {
		t.Errorf("%d events that nobody wants", n)
	}
	subscribe(t, q, "alerts", "now", "$postrider.>")
	dies("$postrider.dead.other")
	if n := waiting(t, q); n != 0 {
		t.Errorf("%d events of events", n)
	}
	dies("a.$b")
	if n := waiting(t, q); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// Thousands become few messages, whose counts add up: what is like something that was told a moment ago waits for more of it.
func TestManyEventsAreToldTogether(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	subscribe(t, q, "alerts", "now", "$postrider.>")
	subscribe(t, q, "s", "now", "a")
	subscribe(t, q, "s2", "now", "a")
	die := func(name string, n int, reason string) {
		exec(t, q, `INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload, reason)
			SELECT $1, nextval('postrider.outbox_id_seq'), 'dead', now(), 'a', '1', $3 FROM generate_series(1, $2::int)`, name, n, reason)
	}
	turn := func() { exec(t, q, "SELECT postrider.tell_events()") }
	die("s", 1, "rare")
	turn()
	for i := range 5 {
		die("s", 300, fmt.Sprint("reason ", i))
		die("s", 700, "usual")
		turn()
	}
	die("s2", 1, "other") // it waits for nobody else
	turn()
	if got := tellings(t, q); len(got) != 2 || got[0].Count != 1 || got[1].Subscription != "s2" {
		t.Fatalf("told at first: %+v", got)
	}
	exec(t, q, `UPDATE postrider.events_told SET told_at = told_at - interval '31 seconds'`)
	turn()
	got := tellings(t, q)
	if len(got) != 3 || got[2].Count != 5000 || got[2].Reason != "usual" || len(got[2].Messages) != 10 || got[2].Messages[0].Reason != "reason 0" {
		t.Errorf("told in the end: %+v", got)
	}
	if n := waiting(t, q); n != 0 {
		t.Errorf("%d events still wait", n)
	}
	// A clock that was set back makes nobody wait for years.
	exec(t, q, `UPDATE postrider.events_told SET told_at = told_at + interval '1 year'`)
	die("s", 1, "later")
	turn()
	if n := len(tellings(t, q)); n != 4 {
		t.Errorf("%d told, want 4", n)
	}
}

// An event goes when its message has come, whatever becomes of the transaction between, and of two who tell one is enough.
func TestTellingIsAllOrNothing(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	subscribe(t, q, "alerts", "now", "$postrider.>")
	subscribe(t, q, "s", "now", "a")
	park(t, q, "s", enqueue(t, q, "a"), "dead")
	tx := begin(t, db.Conn(t))
	exec(t, tx, "SELECT postrider.tell_events()")
	if n := one[int](t, q, "SELECT postrider.tell_events()"); n != 0 || len(tellings(t, q)) != 0 {
		t.Errorf("a second one told %d", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := tell(t, q); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("told after a rollback: %+v", got)
	}
	// One that commits late comes late, and is not lost.
	late := begin(t, db.Conn(t))
	park(t, late, "s", enqueue(t, q, "a"), "dead")
	park(t, q, "s", enqueue(t, q, "a"), "dead")
	tell(t, q)
	commit(t, late)
	if got := tell(t, q); len(got) != 3 {
		t.Errorf("told: %+v", got)
	}
}

// While nobody tells there is room for so many; how many had none is told, and then there is room again.
func TestEventsAreBounded(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	subscribe(t, q, "alerts", "now", "$postrider.>")
	subscribe(t, q, "s", "now", "a")
	die := func(n int) {
		exec(t, q, `INSERT INTO postrider.parked (subscription, id, state, created_at, topic, payload)
			SELECT 's', nextval('postrider.outbox_id_seq'), 'dead', now(), 'a', '1' FROM generate_series(1, $1::int)`, n)
	}
	exec(t, q, `SELECT setval('postrider.events_n', 99990)`)
	die(25)
	if n := waiting(t, q); n != 10 {
		t.Errorf("%d events wait, want 10", n)
	}
	got := tell(t, q)
	if len(got) != 2 || got[0].Count != 10 || got[1].Topic != "$postrider.lost" || got[1].Event != "lost" || got[1].Count != 15 {
		t.Errorf("told: %+v", got)
	}
	die(5)
	if got := tell(t, q); len(got) != 3 || got[2].Event != "dead" || got[2].Count != 5 {
		t.Errorf("told: %+v", got)
	}
	// Numbers alone fill nothing, once somebody looks.
	exec(t, q, `SELECT setval('postrider.events_n', 300000)`)
	tell(t, q)
	die(1)
	if got := tell(t, q); len(got) != 4 || got[3].Event != "dead" || got[3].Count != 1 {
		t.Errorf("told: %+v", got)
	}
}

// What relays say of lost workers is told, many together, to those who ask for it alone.
func TestLostWorkersAreTold(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	subscribe(t, q, "alerts", "now", "$postrider.*.mail")
	note := func(n int) {
		exec(t, q, `SELECT postrider.note_lost_workers(array_agg(s), array_agg(s || '-worker-' || g), array_agg('it is silent'::text), array_agg(2), array_agg(g))
			FROM unnest('{mail,other}'::text[]) s, generate_series(1, $1::int) g`, n)
	}
	note(1)
	if n := waiting(t, q); n != 1 {
		t.Fatalf("%d events wait, want that of mail alone", n)
	}
	tell(t, q)
	note(20)
	exec(t, q, `SELECT postrider.note_lost_workers('{mail}', '{NULL}', '{it is silent}', '{5}', '{7}')`)
	exec(t, q, "SELECT postrider.tell_events()")
	if n := len(tellings(t, q)); n != 1 {
		t.Errorf("%d messages within half a minute", n)
	}
	got := tell(t, q)
	if len(got) != 2 || got[0].Count != 2 || got[0].Jobs != 1 || len(got[0].Workers) != 1 || got[0].Workers[0] != (lostWorker{"mail-worker-1", 2, 1, "it is silent"}) {
		t.Fatalf("told: %+v", got)
	}
	if m := got[1]; m.Topic != "$postrider.worker_lost.mail" || m.Event != "worker_lost" || m.Subscription != "mail" || *m.Key != "mail" || m.Count != 45 || m.Jobs != 217 || m.Reason != "it is silent" || len(m.Workers) != 10 {
		t.Errorf("told: %+v", m)
	}
}

// Of a holder one relay tells, once; again when it holds more, but not within the hour; and anew when it was away.
func TestHoldersAreToldOnce(t *testing.T) {
	db := pgtest.New(t)
	q := db.Conn(t)
	note := func(q querier, segments int) int64 {
		return one[int64](t, q, `SELECT postrider.note_holders('{a,b}', '{billing,_locks}', '{paused,locks}', ARRAY[$1, 1]::int[], ARRAY[jsonb_build_object('segments', $1::int, 'state', 'paused'), '{"pid": 7}'])`, segments)
	}
	told := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: told of %d holders, want %d", what, got, want)
		}
	}
	told("when nobody asks", note(q, 1), 0)
	if n := one[int](t, q, `SELECT count(*) FROM postrider.retention_holders`) + waiting(t, q); n != 0 {
		t.Errorf("%d rows are written for nobody", n)
	}
	subscribe(t, q, "alerts", "now", "$postrider.retention_held.>")
	tx := begin(t, db.Conn(t))
	told("first", note(tx, 1), 2)
	second := make(chan int64)
	go func() {
		defer close(second)
		second <- note(q, 1) // waits for the first one
	}()
	commit(t, tx)
	told("by a second relay at once", <-second, 0)
	told("again", note(q, 1), 0)
	told("when it has more, at once", note(q, 2), 0)
	exec(t, q, `UPDATE postrider.retention_holders SET told_at = told_at - interval '61 minutes'`)
	told("when it has no more, after an hour", note(q, 1), 0)
	told("when it has more, after an hour", note(q, 2), 1)
	exec(t, q, `UPDATE postrider.retention_holders SET seen_at = seen_at - interval '14 minutes'`)
	told("when it was seen lately", note(q, 2), 0)
	if n := one[int](t, q, `SELECT count(*) FROM postrider.retention_holders WHERE seen_at > now() - interval '1 minute'`); n != 2 {
		t.Errorf("%d holders are noted as seen, want 2", n)
	}
	exec(t, q, `UPDATE postrider.retention_holders SET seen_at = seen_at - interval '16 minutes' WHERE holder = 'a'`)
	told("when it comes back", note(q, 1), 1)
	got := tell(t, q)
	if len(got) != 2 {
		t.Fatalf("told: %+v", got)
	}
	for _, m := range got {
		switch m.Topic {
		case "$postrider.retention_held.billing":
			if m.Event != "retention_held" || m.Subscription != "billing" || m.Count != 3 || m.Reason != "paused" || len(m.Holders) != 3 || m.Holders[1].Segments != 2 || m.Holders[1].State != "paused" {
				t.Errorf("told: %+v", m)
			}
		case "$postrider.retention_held._locks":
			if m.Subscription != "" || m.Count != 1 || m.Holders[0].PID != 7 {
				t.Errorf("told: %+v", m)
			}
		default:
			t.Errorf("told: %+v", m)
		}
	}
}
