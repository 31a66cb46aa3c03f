package main

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/postrider/postrider/internal/pgtest"
)

// asks returns a function that asks a database again and again.
func asks[T any](t *testing.T, db *pgtest.DB) func(sql string) T {
	pool := db.Pool(t)
	return func(sql string) (v T) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), sql).Scan(&v); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return v
	}
}

// Twenty thousand dead letters are redriven by what they died of, while the relay that works on it is killed: each of them once, and the others not at
// all. Deliveries go on meanwhile.
func TestRedriveSurvivesKilledRelays(t *testing.T) {
	t.Parallel()
	const many = 20_000
	db := newDB(t)
	number, text := asks[int64](t, db), asks[string](t, db)
	url, received := webhookReceiver(t, func(*http.Request) int { return http.StatusOK })
	db.Exec(t, "SELECT postrider.subscribe('hooks', '{a.>}', $1)", url)
	db.Exec(t, `INSERT INTO postrider.parked (subscription, id, created_at, state, attempts, topic, payload, reason)
		SELECT 'hooks', g, now(), 'dead', 20, 'a.b', to_jsonb(g), CASE WHEN g % 4 = 0 THEN 'status 400' ELSE 'status 503' END FROM generate_series(1, $1) g`, many*4/3)
	var got sync.Map
	go func() {
		for {
			select {
			case body := <-received:
				got.Store(body, true)
			case <-t.Context().Done():
				return
			}
		}
	}()
	env := append(sidecar(db.URL(), url, "a.>"), "POSTRIDER_SUBSCRIPTION=hooks")
	p := start(t, env...)
	p.waitFor("delivering.*subscription=hooks")
	on(t, db.URL(), "operations", "preview", "redrive", "hooks", "--failure", "status 503").ok("redrive of subscription \"hooks\": more than ")
	on(t, db.URL(), "operations", "start", "redrive", "hooks", "--failure", "status 503").ok("Operation 1: redrive of subscription \"hooks\", more than ", "postrider operations show 1")
	changed := func() int64 { return number("SELECT changed FROM postrider.operations") }
	for kills := int64(1); kills <= 2; kills++ {
		eventually(t, "chunks are done", func() bool { return changed() >= kills*4_000 })
		p.signal(syscall.SIGKILL)
		p = start(t, env...)
	}
	db.Exec(t, "SELECT postrider.enqueue('a.b', '\"new\"')")
	eventuallyIn(t, 10*patience, "it is done", func() bool { return text("SELECT state FROM postrider.operations") == "done" })
	if n := changed(); n != many {
		t.Errorf("%d were redriven, want %d", n, many)
	}
	on(t, db.URL(), "operations", "list").ok("1 redrive hooks done 20,000 more than ", "failure status 503")
	on(t, db.URL(), "operations", "show", "1").ok("done 20,000 of more than ", "ended")
	if n := number("SELECT count(*) FROM postrider.parked WHERE state = 'dead' AND attempts = 20 AND reason = 'status 400'"); n != many/3 {
		t.Errorf("%d others are dead letters as before, want %d", n, many/3)
	}
	eventuallyIn(t, 10*patience, "all that were redriven are delivered", func() bool {
		return number("SELECT count(*) FROM postrider.parked") == many/3
	})
	for g := range many * 4 / 3 {
		if _, came := got.Load(fmt.Sprint(g + 1)); came != ((g+1)%4 != 0) {
			t.Fatalf("%d was delivered: %v", g+1, came)
		}
	}
	if n := number("SELECT version FROM postrider.subscriptions"); n > 40 {
		t.Errorf("the subscription was changed %d times for %d messages", n, many)
	}
}

// The command says what is wrong, in its own words, and shows what there is.
func TestOperationsCommand(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	do := func(args ...string) result {
		t.Helper()
		return on(t, db.URL(), append([]string{"operations"}, args...)...)
	}
	do("list").ok("There are no operations.")
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	park(t, db)
	do("preview", "redrive", "billing", "--all").ok(`redrive of subscription "billing": 2 messages.`)
	do("preview", "cancel", "billing", "--key", "k", "--json").ok(`"messages": 2`, `"more": false`)
	do("start", "discard", "billing", "--topic", "orders.paid", "--since", "1h").ok(`Operation 1: discard of subscription "billing", 1 message.`)
	do("start", "cancel", "billing", "--failure", "nothing", "--reason", "why not").ok("Operation 2", "0 messages")
	do("list").ok("2 cancel billing waiting 0 0", "failure nothing", "1 discard billing waiting 0 1", "topic orders.paid, since 20").lacks("there are no")
	do("list", "--json").ok(`"kind": "discard"`, `"expected": 1`)
	do("list", "--limit", "1").ok("2 cancel").lacks("discard")
	do("show", "2").ok("operation 2: cancel", "reason why not", "state waiting", "done 0 of 0")
	do("show", "2", "--json").ok(`"reason": "why not"`)
	do("cancel", "2").ok("state cancelled")
	do("cancel", "2").ok("state cancelled")
	db.Exec(t, "SELECT postrider.work_operation()")
	do("show", "1").ok("state done", "done 1 of 1")
	do("cancel", "1").fails("operation 1 is done already")
	on(t, db.URL(), "parked", "list", "--state", "discarded").ok("104")

	do("show", "7").fails("there is no operation 7: `postrider operations list` lists them")
	do("cancel", "7").fails("there is no operation 7")
	do("show", "x").fails(`number "x": must be a number, as ` + "`postrider operations list`")
	do("start", "redrive", "biling", "--all").fails(`did you mean "billing"?`)
	do("start", "redrive", "billing").fails("say which messages: by --topic, --key, --failure, --since and --until, or else --all")
	do("start", "redrive", "billing", "--all", "--key", "k").fails("say which messages")
	do("start", "redo", "billing", "--all").fails(`operation "redo": must be redrive, discard or cancel`)
	do("start", "redrive", "billing", "--topic", "a b").fails(`topic "a b": must be a pattern such as`)
	do("start", "redrive", "billing", "--since", "1h", "--until", "2h").fails("since ", "must be before until, which is")
	do("start", "redrive", "billing", "--since", "yesterday").fails(`--since "yesterday": must be a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h`)
	do("start", "redrive", "billing", "--all", "--reason", "x").fails(`reason "x": only cancel keeps one`)
	do("list", "--limit", "0").fails("limit 0")
}

// A relay that only looks after workers in SQL works off what is asked for as well; an operation that is cancelled stops.
func TestOperationsStop(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	number, text := asks[int64](t, db), asks[string](t, db)
	db.Exec(t, "SELECT postrider.subscribe('payments', '{payments.>}', 'sql:')")
	db.Exec(t, "SELECT count(postrider.enqueue('payments.new', '{}', key => 'k-' || g % 50)) FROM generate_series(1, 30000) g")
	on(t, db.URL(), "operations", "start", "cancel", "payments", "--all").ok("payments\", more than ")
	p := start(t, sidecar(db.URL(), "stdout:", "other.>")...)
	p.waitFor("relay started")
	eventually(t, "a chunk is done", func() bool { return number("SELECT changed FROM postrider.operations") > 0 })
	on(t, db.URL(), "operations", "cancel", "1").ok("state cancelled")
	cancelled := func() int64 {
		return number("SELECT count(*) FROM postrider.parked WHERE state = 'cancelled'")
	}
	n := cancelled()
	on(t, db.URL(), "operations", "start", "cancel", "payments", "--key", "k-7").ok(fmt.Sprintf("Operation 2: cancel of subscription %q", "payments"))
	eventuallyIn(t, 5*patience, "the next one is done", func() bool {
		return text("SELECT state FROM postrider.operations WHERE id = 2") == "done"
	})
	if more := number("SELECT changed FROM postrider.operations WHERE id = 2"); cancelled() != n+more || more > 600 || n >= 30_000 {
		t.Errorf("%d were cancelled by the first, %d by the second, %d are", n, more, cancelled())
	}
	if n := number("SELECT count(*) FROM postrider.take('payments', 100)"); n == 0 {
		t.Error("what was not cancelled does not come")
	}
}

// Operations that are not finished, and those that failed lately, show in status; doctor names those that stand still, and what to do.
func TestOperationsThatStandStillAreShown(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "status").ok().lacks("OPERATION")
	for _, name := range []string{"hooks", "gone"} {
		db.Exec(t, "SELECT postrider.subscribe($1, '{a.>}', 'stdout:')", name)
		db.Exec(t, `INSERT INTO postrider.parked (subscription, id, created_at, updated_at, state, topic, payload)
			SELECT $1, g, now() - interval '1 hour', now() - interval '1 hour', 'dead', 'a.b', '1' FROM generate_series(1, 10) g`, name)
	}
	db.Exec(t, "UPDATE postrider.subscriptions SET created_at = created_at - interval '1 hour'") // before what is asked for, below, in the past
	doctor := func() result { return on(t, db.URL(), "doctor") }
	start := func(name string) { on(t, db.URL(), "operations", "start", "redrive", name, "--all").ok() }
	start("hooks") // 1
	on(t, db.URL(), "status").ok("OPERATION", "1 redrive hooks waiting")
	doctor().has("1 operation under way, none stands still")
	later := func() {
		db.Exec(t, "UPDATE postrider.operations SET asked_at = asked_at - interval '2 minutes', worked_at = worked_at - interval '2 minutes', troubled_at = troubled_at - interval '2 minutes', due = now()")
	}
	later()
	doctor().has(`operation 1, redrive of "hooks", waits for somebody to work on it, and nobody does`, "SELECT postrider.work_operation();", "postrider operations cancel 1")
	// A chunk that fails for once is no news; one that fails for long is, though it is tried again and again.
	db.Exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the books are closed'; END $$`)
	db.Exec(t, `CREATE TRIGGER refuse BEFORE UPDATE ON postrider.parked FOR EACH ROW EXECUTE FUNCTION refuse()`)
	work := func() {
		db.Exec(t, "UPDATE postrider.operations SET due = now()")
		db.Exec(t, "SELECT postrider.work_operation()")
	}
	work()
	doctor().has("none stands still")
	later()
	work()
	doctor().has(`operation 1, redrive of "hooks", has made no progress for 2m`, ": the books are closed", "postrider operations cancel 1").lacks("nobody does")
	on(t, db.URL(), "status").ok("1 redrive hooks running", "the books are closed")
	db.Exec(t, "DROP TRIGGER refuse ON postrider.parked")
	work()
	if since := one[bool](t, db, "SELECT troubled_at IS NULL AND trouble IS NULL FROM postrider.operations"); !since {
		t.Error("it is in trouble after a chunk was done")
	}
	db.Exec(t, "UPDATE postrider.operations SET state = 'done', finished_at = now()")
	on(t, db.URL(), "status").ok().lacks("OPERATION")
	// One that failed is shown for a day.
	start("gone") // 2
	db.Exec(t, "SELECT postrider.unsubscribe('gone')")
	work()
	on(t, db.URL(), "status").ok("2 redrive gone failed", `subscription "gone" was removed`)
	doctor().has(`operation 2, redrive of "gone", has failed: subscription "gone" was removed`, "postrider operations show 2")
	db.Exec(t, "UPDATE postrider.operations SET finished_at = finished_at - interval '25 hours'")
	on(t, db.URL(), "status").ok().lacks("OPERATION")
	doctor().lacks("operation 2")
}
