package migrations

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// deadLetters gives a subscription so many, of which every second has the topic a.even, every third the error "status 503: 100% down".
func deadLetters(t *testing.T, q querier, name string, n int) {
	t.Helper()
	exec(t, q, `INSERT INTO postrider.parked (subscription, id, created_at, state, attempts, topic, key, payload, reason)
		SELECT $1, g, now() - g * interval '1 minute', 'dead', 20, CASE WHEN g % 2 = 0 THEN 'a.even' ELSE 'a.odd' END, 'k-' || g % 10, '{}',
		       CASE WHEN g % 3 = 0 THEN 'status 503: 100% down' ELSE 'status 400' END
		FROM generate_series(1, $2) g`, name, n)
}

// start asks for an operation.
func startOperation(t *testing.T, q querier, args string) int64 {
	t.Helper()
	return one[int64](t, q, "SELECT postrider.start_operation("+args+")")
}

// workOff does chunks until nobody waits for one; it returns how many they were.
func workOff(t *testing.T, q querier, most int) (n int) {
	t.Helper()
	for {
		exec(t, q, "UPDATE postrider.operations SET due = now() WHERE finished_at IS NULL")
		if one[int64](t, q, "SELECT coalesce(id, 0) FROM postrider.work_operation('r', $1)", most) == 0 {
			return n
		}
		if n++; n > 200 {
			t.Fatalf("there is no end of it: %s", one[string](t, q, "SELECT string_agg(to_jsonb(o)::text, ' ') FROM postrider.operations o WHERE finished_at IS NULL"))
		}
	}
}

// ends wants an operation to be in a state, with so many changed.
func ends(t *testing.T, q querier, id int64, want string) {
	t.Helper()
	got := one[string](t, q, "SELECT state || ' ' || changed || coalesce(' ' || nullif(refused, 0), '') || coalesce(' ' || trouble, '') FROM postrider.operations WHERE id = $1", id)
	if got != want {
		t.Errorf("operation %d is %s, want %s", id, got, want)
	}
}

func parked(t *testing.T, q querier, name, state string) int64 {
	t.Helper()
	return one[int64](t, q, "SELECT count(*) FROM postrider.parked WHERE subscription = $1 AND state = $2", name, state)
}

// Each part of a filter holds for all that is changed, and nothing else is; one chunk is one change of the subscription.
func TestOperationsFilter(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	for i, c := range []struct {
		filter string
		want   int64
	}{
		{"everything => true", 120}, {"topic => 'a.even'", 60}, {"topic => 'a.*', key => 'k-3'", 12}, {"failure => '503: 100%'", 40}, {"failure => 'STATUS*DOWN'", 40},
		{"failure => '1__%'", 0}, {"failure => '400', topic => 'a.odd'", 40}, {"since => now() - interval '30.5 minutes'", 30}, {"until => now() - interval '30.5 minutes'", 90},
		{"since => now() - interval '40.5 minutes', until => now() - interval '30.5 minutes', key => 'k-3'", 1}, {"topic => 'b.>'", 0},
	} {
		name := fmt.Sprintf("s%d", i)
		subscribe(t, conn, name, "now", "a.>")
		deadLetters(t, conn, name, 120)
		for _, kind := range []string{"redrive", "discard"} {
			args := fmt.Sprintf("'%s', '%s', %s", kind, name, c.filter)
			if got := one[string](t, conn, "SELECT messages || ' ' || more FROM postrider.preview_operation("+args+")"); got != fmt.Sprint(c.want, " false") {
				t.Errorf("%s: preview says %s, want %d", args, got, c.want)
			}
		}
		kind, becomes := "redrive", "retrying"
		if i%2 == 1 {
			kind, becomes = "discard", "discarded"
		}
		version := one[int64](t, conn, "SELECT version FROM postrider.subscriptions WHERE name = $1", name)
		id := startOperation(t, conn, fmt.Sprintf("'%s', '%s', %s", kind, name, c.filter))
		workOff(t, conn, 50)
		ends(t, conn, id, fmt.Sprint("done ", c.want))
		if n, left := parked(t, conn, name, becomes), parked(t, conn, name, "dead"); n != c.want || left != 120-c.want {
			t.Errorf("%s: %d are %s and %d dead", c.filter, n, becomes, left)
		}
		version = one[int64](t, conn, "SELECT version FROM postrider.subscriptions WHERE name = $1", name) - version
		if chunks := (c.want + 49) / 50; version > max(chunks, 1) || (version > 0) != (c.want > 0) {
			t.Errorf("%s: the subscription was changed %d times for %d messages", c.filter, version, c.want)
		}
	}
}

// What dies again, or for the first time, after an operation was asked for is left alone, by that one and by another that waits behind it.
func TestOperationsConcernWhatThereWas(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a.>")
	deadLetters(t, conn, "s", 30)
	first, _ := startOperation(t, conn, "'redrive', 's', everything => true"), startOperation(t, conn, "'redrive', 's', topic => 'a.even'")
	for one[int64](t, conn, "SELECT changed FROM postrider.operations WHERE id = $1", first) == 0 {
		exec(t, conn, "SELECT postrider.work_operation('r', 10)")
	}
	// Those that were redriven die at once, and so do others.
	exec(t, conn, "UPDATE postrider.parked SET state = 'dead', attempts = 1, updated_at = clock_timestamp() WHERE state = 'retrying'")
	exec(t, conn, `INSERT INTO postrider.parked (subscription, id, created_at, state, topic, payload, updated_at) SELECT 's', 1000 + g, now(), 'dead', 'a.even', '{}', clock_timestamp() FROM generate_series(1, 5) g`)
	workOff(t, conn, 10)
	changed := one[int64](t, conn, "SELECT sum(changed) FROM postrider.operations WHERE state = 'done'")
	if n := one[int64](t, conn, "SELECT count(*) FROM postrider.parked WHERE state = 'dead' AND id < 1000 AND attempts = 20"); n != 0 || changed != 30 {
		t.Errorf("%d were not redriven, %d were by the two, want each of 30 once", n, changed)
	}
	if n := parked(t, conn, "s", "dead"); n != 15 {
		t.Errorf("%d are dead, want the 10 that died again, and 5 others", n)
	}
}

// A preview is bounded.
func TestPreviewIsBounded(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a.>")
	deadLetters(t, conn, "s", 10_001)
	for filter, want := range map[string]string{"everything => true": "10000 true", "topic => 'a.odd'": "5001 false"} {
		if got := one[string](t, conn, "SELECT messages || ' ' || more FROM postrider.preview_operation('redrive', 's', "+filter+")"); got != want {
			t.Errorf("%s: %s, want %s", filter, got, want)
		}
	}
	id := startOperation(t, conn, "'discard', 's', everything => true")
	if got := one[string](t, conn, "SELECT expected || ' ' || expected_more FROM postrider.operations WHERE id = $1", id); got != "10000 true" {
		t.Errorf("it was asked for %s", got)
	}
}

// Where somebody waits for it, a preview looks at no more than it needs for its number, and at thirty thousand at most.
func TestPreviewLooksAtLittle(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a.>")
	deadLetters(t, conn, "s", 60_000)
	exec(t, conn, "ANALYZE postrider.parked")
	const preview = "SELECT * FROM postrider.preview_operation('redrive', 's', "
	blocks(t, conn, preview+"everything => true)") // the session's first, which looks the function up
	per := float64(blocks(t, conn, "SELECT count(updated_at) FROM (SELECT updated_at FROM postrider.parked WHERE subscription = 's' ORDER BY id) p")) / 60_000
	for filter, looked := range map[string]float64{"everything => true": 10_001, "topic => 'a.odd'": 20_002, "topic => 'none'": 30_000} {
		if n := blocks(t, conn, preview+filter+")"); float64(n) > 1.3*looked*per+300 {
			t.Errorf("%s: %d blocks were looked at, want about %.0f", filter, n, looked*per)
		}
	}
	if got := one[string](t, conn, "SELECT messages || ' ' || more FROM postrider.preview_operation('redrive', 's', topic => 'none')"); got != "0 true" {
		t.Errorf("of what was not looked at: %s, want 0 and that there may be more", got)
	}
}

// A cancelled operation changes nothing more, and what it has changed stays.
func TestOperationsAreCancelled(t *testing.T) {
	db := pgtest.New(t)
	conn, other := db.Conn(t), db.Conn(t)
	subscribe(t, conn, "s", "now", "a.>")
	deadLetters(t, conn, "s", 30)
	id := startOperation(t, conn, "'discard', 's', everything => true")
	exec(t, conn, "SELECT postrider.work_operation('r', 10)")
	ends(t, conn, id, "running 10")
	exec(t, conn, "UPDATE postrider.operations SET due = now()")
	// While a chunk is being done nobody else does one of it, and who cancels waits for its end.
	tx := begin(t, other)
	if got := one[int64](t, tx, "SELECT id FROM postrider.work_operation('r', 10)"); got != id {
		t.Fatalf("%d is worked on", got)
	}
	if n := one[*int64](t, conn, "SELECT id FROM postrider.work_operation('r', 10)"); n != nil {
		t.Errorf("%d is worked on by two at once", *n)
	}
	cancelled := make(chan string)
	go func() {
		var state string
		_ = conn.QueryRow(t.Context(), "SELECT postrider.cancel_operation($1)", id).Scan(&state)
		cancelled <- state
	}()
	commit(t, tx)
	if state := <-cancelled; state != "cancelled" {
		t.Errorf("the answer is %q", state)
	}
	if n := workOff(t, conn, 10); n != 0 {
		t.Errorf("%d chunks of a cancelled operation", n)
	}
	ends(t, conn, id, "cancelled 20")
	if n := parked(t, conn, "s", "dead"); n != 10 {
		t.Errorf("%d are dead, want 10", n)
	}
	if got := one[string](t, conn, "SELECT postrider.cancel_operation($1)", startOperation(t, conn, "'redrive', 's', topic => 'b'")); got != "cancelled" {
		t.Errorf("one that waits: %s", got)
	}
	refused(t, conn, "operation 77: there is none of this number", "SELECT postrider.cancel_operation(77)")
}

// A chunk is done whole, with the note of how far it has come, or not at all.
func TestChunksAreWhole(t *testing.T) {
	db := pgtest.New(t)
	conn, other := db.Conn(t), db.Conn(t)
	subscribe(t, conn, "s", "now", "a.>")
	deadLetters(t, conn, "s", 30)
	id := startOperation(t, conn, "'redrive', 's', everything => true")
	tx := begin(t, other)
	exec(t, tx, "SELECT postrider.work_operation('r', 20)")
	if err := tx.Rollback(t.Context()); err != nil { // a killed relay's
		t.Fatal(err)
	}
	ends(t, conn, id, "waiting 0")
	workOff(t, conn, 20)
	ends(t, conn, id, "done 30")
	// One that fails does nothing either, says why, and is tried again.
	exec(t, conn, "UPDATE postrider.parked SET state = 'dead', updated_at = now()")
	exec(t, conn, `CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 15 THEN RAISE ''not this one''; END IF; RETURN NEW; END'`)
	exec(t, conn, `CREATE TRIGGER no BEFORE UPDATE ON postrider.parked FOR EACH ROW EXECUTE FUNCTION public.no()`)
	id = startOperation(t, conn, "'redrive', 's', everything => true")
	for range 3 {
		exec(t, conn, "UPDATE postrider.operations SET due = now()")
		exec(t, conn, "SELECT postrider.work_operation('r', 10)")
	}
	ends(t, conn, id, "running 10 not this one")
	if n := parked(t, conn, "s", "retrying"); n != 10 {
		t.Errorf("%d were redriven, want one chunk of 10", n)
	}
	if wait := one[bool](t, conn, "SELECT wait > '1 second' FROM postrider.work_operation('r', 10)"); !wait {
		t.Error("it is tried again at once")
	}
	exec(t, conn, "DROP TRIGGER no ON postrider.parked")
	workOff(t, conn, 10)
	ends(t, conn, id, "done 30")
}

// A dead letter whose unique key another message has by now is not redriven; the others are.
func TestOperationsAndUniqueKeys(t *testing.T) {
	s := newShop(t, `{"shards": 1, "max_attempts": 1}`)
	dead := one[int64](t, s.app, `SELECT id FROM postrider.enqueue_unique('a.x', '{}', unique_key => 'u', unique_scope => 'pending:w')`)
	other := one[int64](t, s.app, `SELECT id FROM postrider.enqueue_unique('a.x', '{}', unique_key => 'v', unique_scope => 'pending:w')`)
	s.batch(2, func(tx pgx.Tx, jobs []job) {
		for _, j := range jobs {
			exec(t, tx, `SELECT postrider.kill('w', $1, 'no')`, j.ID)
		}
	})
	if n := parked(t, s.app, "w", "dead"); n != 2 {
		t.Fatalf("%d are dead", n)
	}
	exec(t, s.app, `SELECT postrider.enqueue_unique('a.x', '{}', unique_key => 'u', unique_scope => 'pending:w')`)
	id := startOperation(t, s.app, "'redrive', 'w', everything => true")
	workOff(t, s.app, 10)
	ends(t, s.app, id, "done 1 1")
	s.statuses(map[int64]string{dead: "dead", other: "retrying"})
}

// Workers in SQL: dead letters come again, what waits is cancelled wherever it is, keys go on, and none is lost.
func TestOperationsForWorkersInSQL(t *testing.T) {
	s := newShop(t, `{"shards": 4, "max_attempts": 1}`)
	var put []int64
	for i := range 40 {
		put = append(put, s.put(fmt.Sprintf("k-%d", i%4))...)
	}
	var killed int64
	for n := 0; n < 20; {
		n += len(s.batch(5, func(tx pgx.Tx, jobs []job) {
			for _, j := range jobs {
				killed++
				exec(t, tx, `SELECT postrider.kill('w', $1, 'no such account')`, j.ID)
			}
		}))
	}
	id := startOperation(t, s.app, "'redrive', 'w', failure => 'ACCOUNT'")
	workOff(t, s.app, 7)
	ends(t, s.app, id, fmt.Sprint("done ", killed))
	id = startOperation(t, s.app, "'cancel', 'w', key => 'k-1', reason => 'no more'")
	workOff(t, s.app, 3)
	ends(t, s.app, id, "done 10")
	got := map[int64]bool{}
	for _, j := range drainShards(t, s.worker, "w") {
		if got[j.ID] {
			t.Errorf("%d came twice", j.ID)
		}
		got[j.ID] = true
	}
	for i, id := range put {
		if got[id] != (i%4 != 1) {
			t.Errorf("message %d of k-%d came: %v", id, i%4, got[id])
		}
	}
	exec(t, s.app, `SELECT postrider.replay('w', 'earliest')`)
	for _, j := range drainShards(t, s.worker, "w") {
		if (j.ID-put[0])%4 == 1 {
			t.Errorf("%d was cancelled, and came by a replay", j.ID)
		}
	}
	if n := one[int64](t, s.app, "SELECT count(*) FROM postrider.parked WHERE state = 'cancelled' AND reason = 'no more'"); n != 10 {
		t.Errorf("%d are cancelled with their reason", n)
	}
}

// Of a key that waits the rest goes on when an operation has cancelled the first.
func TestOperationsLetKeysGoOn(t *testing.T) {
	s := newShop(t, `{"shards": 1, "backoff_initial": "1h"}`)
	put := s.put("k", "k", "k")
	s.batch(3, func(tx pgx.Tx, jobs []job) { exec(t, tx, `SELECT postrider.retry('w', $1, 'out of paper')`, put[0]) })
	wantIDs(t, "while the first one waits", drainShards(t, s.worker, "w"))
	id := startOperation(t, s.app, "'cancel', 'w', failure => 'paper'")
	workOff(t, s.app, 10)
	ends(t, s.app, id, "done 1")
	wantIDs(t, "once it is cancelled", drainShards(t, s.worker, "w"), put[1:]...)
}

// Where a relay delivers, an operation asks for each message once, and for none that is settled, comes later, or is of another subscription.
func TestOperationsAskToCancel(t *testing.T) {
	db := pgtest.New(t)
	conn, late := db.Conn(t), db.Conn(t)
	subscribe(t, conn, "s", "earliest", "a.*")
	subscribe(t, conn, "o", "earliest", ">")
	enqueue(t, conn, "a.b") // settled
	exec(t, conn, "UPDATE postrider.cursors SET base = pg_current_snapshot()")
	want := []int64{enqueue(t, conn, "a.b"), enqueue(t, conn, "a.b")}
	enqueue(t, conn, "b.c")
	tx := begin(t, late)
	enqueue(t, tx, "a.b")
	want = append(want, enqueue(t, conn, "a.b"))
	exec(t, conn, `INSERT INTO postrider.parked (subscription, id, created_at, xid, state, topic, payload) SELECT 's', id, created_at, xid, 'held', topic, payload FROM postrider.outbox WHERE id = $1`, want[1])
	id := startOperation(t, conn, "'cancel', 's', topic => 'a.b', reason => 'withdrawn'")
	commit(t, tx)
	enqueue(t, conn, "a.b")
	workOff(t, conn, 2)
	ends(t, conn, id, "done 3")
	if got := one[[]int64](t, conn, "SELECT array_agg(id ORDER BY id) FROM postrider.cancels WHERE subscription = 's' AND reason = 'withdrawn'"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v are to be cancelled, want %v", got, want)
	}
	if n := one[int64](t, conn, "SELECT count(*) FROM postrider.cancels"); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestBadOperations(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a.>")
	for args, want := range map[string]string{
		`'redo', 's', everything => true`:                              `operation "redo": must be redrive, discard or cancel`,
		`'redrive', 'none', everything => true`:                        `subscription "none": there is none of this name`,
		`'redrive', NULL, everything => true`:                          `subscription null: there is none of this name`,
		`'redrive', 's', topic => 'a b'`:                               `topic "a b": must be a pattern such as`,
		`'redrive', 's', failure => ' *'`:                              `failure " *": must be a part of the last error`,
		`'redrive', 's', since => '2026-01-02', until => '2026-01-01'`: `since 2026-01-02 00:00:00+00: must be before until, which is 2026-01-01 00:00:00+00`,
		`'redrive', 's'`:                                               `redrive of "s": say which messages: by topic, key, failure, since and until, or else everything`,
		`'redrive', 's', key => 'k', everything => true`:               `redrive of "s": say which messages`,
	} {
		refused(t, conn, want, "SELECT postrider.start_operation("+args+")")
		refused(t, conn, want, "SELECT postrider.preview_operation("+args+")")
	}
	refused(t, conn, `reason "why": only cancel keeps one`, "SELECT postrider.start_operation('redrive', 's', everything => true, reason => 'why')")
	refused(t, conn, "most 0: must be from 1 to 10000", "SELECT postrider.work_operation('r', 0)")
	refused(t, conn, "retention -1 days: must be an interval that is not negative", "SELECT postrider.expire_operations('-1 day')")
}

// Operations of a subscription that is removed fail, also when there is another one of its name; those that ended go when they are old.
func TestOperationsEnd(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	subscribe(t, conn, "s", "now", "a.>")
	id := startOperation(t, conn, "'cancel', 's', everything => true")
	exec(t, conn, "SELECT postrider.unsubscribe('s')")
	subscribe(t, conn, "s", "earliest", "a.>")
	enqueue(t, conn, "a.b")
	workOff(t, conn, 10)
	ends(t, conn, id, `failed 0 subscription "s" was removed`)
	running := startOperation(t, conn, "'cancel', 's', everything => true")
	if n := one[int64](t, conn, "SELECT postrider.expire_operations('1 hour')"); n != 0 {
		t.Errorf("%d were removed early", n)
	}
	if n := one[int64](t, conn, "SELECT postrider.expire_operations('0')"); n != 1 {
		t.Errorf("%d were removed, want 1", n)
	}
	ends(t, conn, running, "waiting 0")
}
