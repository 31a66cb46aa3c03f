package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/pgtest"
)

const twoSubscriptions = `subscriptions:
  - name: billing
    topics: [orders.>]
    sink: https://u:geheim@host/hook?token=geheim
    start: earliest
    max_attempts: 10
  - name: bus
    topics: ['>']
    sink: nats://host:4222?stream=S
`

func TestVersion(t *testing.T) {
	t.Parallel()
	r := runCommand(t, nil, "", "version").ok("postrider ", "go1.")
	if flag := runCommand(t, nil, "", "--version").ok(); flag.out != r.out {
		t.Errorf("--version prints %q, version %q", flag.out, r.out)
	}
}

func TestUnknownCommands(t *testing.T) {
	t.Parallel()
	runCommand(t, nil, "", "stauts").fails(`unknown command "stauts"`, `did you mean "status"?`)
	runCommand(t, nil, "", "subs", "lst").fails(`unknown command "lst" for "postrider subs"`)
	runCommand(t, nil, "", "status", "--jsno").fails("unknown flag: --jsno")
	runCommand(t, nil, "", "status", "x").fails(`unknown command "x"`)
	runCommand(t, nil, "").ok("subs List and change subscriptions", "completion")
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	on(t, db.URL(), "status").fails(`holds no Postrider schema: run `+"`postrider migrate`", db.Name)
	on(t, db.URL(), "enqueue", "a.b").fails("run `postrider migrate`")
	on(t, db.URL(), "migrate").ok(" applied: the schema has version")
	on(t, db.URL(), "migrate").ok("The schema is up to date")
	on(t, db.URL(), "status").ok("There are no subscriptions", "No relay is registered")
	runCommand(t, nil, "", "status", "--database-url", db.URL()).ok("There are no subscriptions")
}

func TestConnectionErrors(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, strings.Replace(db.URL(), db.Name, "no_such_db", 1), "status").fails(`database "no_such_db" does not exist`)
	on(t, db.RoleURL("no_such_role"), "status").fails(`role "no_such_role" does not exist`)
	on(t, "postgres://u:geheim@127.0.0.1:1/x", "status").fails("127.0.0.1:1").lacks("geheim")
	on(t, "postgres://u:geheim@host:port/x", "status").fails("database URL").lacks("geheim")
}

func TestSubs(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	list := func(words ...string) result { return on(t, db.URL(), "subs", "list").ok(words...).lacks("geheim") }
	list("There are no subscriptions.")
	path := writeFile(t, twoSubscriptions)
	on(t, db.URL(), "subs", "apply", path).ok("billing created", "bus created")
	list("billing active orders.> https://xxxxx@host/hook?token=xxxxx max_attempts=10", "bus active > nats://host:4222?stream=S defaults")
	on(t, db.URL(), "subs", "list", "--json").ok(`"sink": "https://xxxxx@host/hook?token=xxxxx"`, `"max_attempts": 10`).lacks("geheim")

	on(t, db.URL(), "subs", "pause", "billing", "--reason", "the month is closed").ok(`"billing" is paused`)
	list("billing paused", "the month is closed")
	on(t, db.URL(), "subs", "pause", "billing").ok(`"billing" is paused`)
	list("billing paused", "the month is closed")
	on(t, db.URL(), "status").ok("billing paused", "the month is closed")
	on(t, db.URL(), "subs", "resume", "billing").ok(`"billing" is active`)
	list("billing active")
	on(t, db.URL(), "subs", "pause", "biling").fails(`there is no subscription "biling"; did you mean "billing"?`)

	on(t, db.URL(), "subs", "replay", "billing", "--start", "earliest").ok(`"billing" goes on from earliest`).lacks("JetStream")
	on(t, db.URL(), "subs", "replay", "bus", "--start", "2026-01-31T12:00:00Z").ok("duplicate window")
	on(t, db.URL(), "subs", "replay", "bus", "--start", "now").ok().lacks("JetStream")
	on(t, db.URL(), "subs", "replay", "bus").fails("--start is missing")
	on(t, db.URL(), "subs", "replay", "bus", "--start", "tomorrow").fails(`--start "tomorrow": must be earliest, now, a time such as`)
	on(t, db.URL(), "subs", "replay", "bus", "--start", "-1h").fails(`--start "-1h": must be`)
	on(t, db.URL(), "subs", "replay", "zzz", "--start", "now").fails(`there is no subscription "zzz": `)

	on(t, db.URL(), "subs", "remove", "bus").ok(`"bus" is removed`)
	on(t, db.URL(), "subs", "remove", "bus").fails(`there is no subscription "bus"`)
	list("billing").lacks("bus")
}

// A replay from a while ago begins with the messages of that while, by the server's clock.
func TestReplayFromADuration(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	for _, age := range []string{"3 hours", "50 hours", "10 minutes"} {
		db.Exec(t, "INSERT INTO postrider.outbox (topic, payload, created_at) VALUES ('a', '{}', now() - $1::interval)", age)
	}
	db.Exec(t, "SELECT postrider.subscribe('s', '{>}', 'stdout:')")
	for _, c := range []struct{ from, lag string }{{"1h", "1"}, {"2h30m", "1"}, {"4h", "3"}, {"2d", "3"}, {"2d3h", "3"}, {"1s", "0"}} {
		db.Exec(t, "UPDATE postrider.cursors SET base = pg_current_snapshot()")
		on(t, db.URL(), "subs", "replay", "s", "--start", c.from).ok("goes on from 20")
		lag := on(t, db.URL(), "status", "--json").ok().out
		if want := `"lag_messages": ` + c.lag + ","; !strings.Contains(lag, want) {
			t.Errorf("after a replay from %s no %s in\n%s", c.from, want, lag)
		}
	}
}

// A dry run says what would change, field by field and without secrets, and changes nothing; --prune removes what is not named.
func TestApplyShowsAndPrunes(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	apply := func(text string, flags ...string) result {
		return on(t, db.URL(), append([]string{"subs", "apply", writeFile(t, text)}, flags...)...).lacks("geheim", "heimlich")
	}
	apply(twoSubscriptions, "--dry-run").ok("billing created", "bus created", "This was a dry run: nothing was changed.")
	on(t, db.URL(), "subs", "list").ok("There are no subscriptions.")
	apply(twoSubscriptions).ok("billing created")
	before := on(t, db.URL(), "subs", "list", "--json").ok().out

	changed := strings.NewReplacer("orders.>", "orders.*", "token=geheim", "token=heimlich", "max_attempts: 10",
		"lanes: 3\n    backoff_max: 5m\n    options: {rate: 2, headers: {X-Api-Key: 'env:KEY'}}").Replace(twoSubscriptions)
	only := strings.Replace(changed[:strings.Index(changed, "  - name: bus")], "start: earliest", "start: now", 1)
	diff := []string{"billing changed: topics, sink, settings", "topics: orders.> → orders.*", "sink: another value, which is not shown",
		"max_attempts: 10 → 20 (default)", "lanes: nothing → 3", "backoff_max: nothing → 5m", "backoff_schedule: [5s,5m", `options.rate: nothing → 2`}
	apply(only, "--dry-run").ok(diff...).lacks("bus")
	apply(only, "--dry-run", "--prune").ok(append(diff, "bus removed, with its cursor")...)
	apply(only, "--dry-run", "--json").ok(`"field": "max_attempts"`, `"from": "10"`, `"to": "20 (default)"`)
	db.Exec(t, "INSERT INTO postrider.parked (subscription, id, state, created_at, topic) VALUES ('bus', 1, 'dead', now(), 'a'), ('bus', 2, 'retrying', now(), 'a')")
	apply(only, "--prune").fails("prune would remove what is not named: bus (with its cursor, 2 messages parked and 1 dead letter among them)", "with yes it is done")
	if now := on(t, db.URL(), "subs", "list", "--json").ok().out; now != before {
		t.Errorf("it is\n%s, was\n%s", now, before)
	}
	apply(only, "--prune", "--yes").ok(diff[:2]...).has("bus removed, with its cursor, 2 messages parked and 1 dead letter among them")
	on(t, db.URL(), "subs", "list").ok("billing active orders.*").lacks("bus")
	apply(only, "--prune").ok("billing unchanged")
}

func TestApplyChangesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	apply := func(text string) result { return on(t, db.URL(), "subs", "apply", writeFile(t, text)) }
	apply(twoSubscriptions).ok("billing created", "bus created")
	db.Exec(t, "UPDATE postrider.cursors SET epoch = 7; UPDATE postrider.subscriptions SET version = 7")
	want := func(name string, version, epoch int64) {
		t.Helper()
		var v, e int64
		err := db.Conn(t).QueryRow(t.Context(), "SELECT version, epoch FROM postrider.subscriptions JOIN postrider.cursors ON subscription = name WHERE name = $1", name).Scan(&v, &e)
		if err != nil || v != version || e != epoch {
			t.Errorf("%s: version %d, epoch %d, %v, want %d, %d", name, v, e, err, version, epoch)
		}
	}
	apply(twoSubscriptions).ok("billing unchanged", "bus unchanged")
	// A default that is written out is no change.
	apply(strings.Replace(twoSubscriptions, "max_attempts: 10", "max_attempts: 10\n    ordering: key", 1)).ok("billing unchanged")
	// So are the defaults of webhooks, and the order of options.
	apply(strings.Replace(twoSubscriptions, "max_attempts: 10", "backoff_schedule: [5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h]\n    options: {}", 1)).ok("billing unchanged")
	want("billing", 7, 7)
	apply(strings.Replace(twoSubscriptions, "max_attempts: 10", "max_attempts: 11", 1)).ok("billing changed: settings", "bus unchanged")
	want("billing", 8, 7)
	want("bus", 7, 7)
	apply(strings.Replace(twoSubscriptions, "orders.>", "orders.*, payments.*", 1)).ok("billing changed: topics, settings")
	want("billing", 9, 8)
	apply(strings.Replace(twoSubscriptions, "orders.>", "payments.*, orders.*", 1)).ok("billing unchanged")
	fast := strings.NewReplacer("orders.>", "payments.*, orders.*", "max_attempts: 10", "options: {rate: 1, burst: 2}")
	apply(fast.Replace(twoSubscriptions)).ok("billing changed: settings")
	apply(strings.Replace(fast.Replace(twoSubscriptions), "rate: 1, burst: 2", "burst: 2, rate: 1.0", 1)).ok("billing unchanged")
	apply(fast.Replace(twoSubscriptions)+"    max_attempts: 20\n").ok("billing unchanged", "bus unchanged")
	apply(strings.Replace(fast.Replace(twoSubscriptions), "burst: 2}", "burst: 2}\n    max_attempts: 20", 1)).ok("billing changed: settings")
	// What a file does not name stays.
	apply("subscriptions:\n  - {name: third, topics: [a], sink: 'stdout:'}\n").ok("third created")
	on(t, db.URL(), "subs", "list").ok("billing", "bus", "third")
	apply("subscriptions:\n  - {name: third, topic: [a], sink: 'stdout:'}\n").fails(`:2: unknown key "topic"`)
}

func TestApplyAtTheSameTime(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	path := writeFile(t, twoSubscriptions)
	results := make(chan result)
	for range 4 {
		go func() { results <- on(t, db.URL(), "subs", "apply", path) }()
	}
	for range 4 {
		(<-results).ok("billing", "bus")
	}
}

func TestEnqueue(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	env := []string{"POSTRIDER_DATABASE_URL=" + db.URL()}
	row := func(id string) (text string) {
		t.Helper()
		err := db.Conn(t).QueryRow(t.Context(), `SELECT concat_ws(' ', topic, key, payload, convert_from(body, 'UTF8'), headers,
			round(extract(epoch FROM deliver_at - created_at))) FROM postrider.outbox WHERE id = $1`, id).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		args, stdin, want string
	}{
		{"orders.created", "", "orders.created {}"},
		{`orders.created {"a":1} --key k`, "", `orders.created k {"a": 1}`},
		{"orders.created - --header a=b=c --header d=", `[1, 2]`, `orders.created [1, 2] {"a": "b=c", "d": ""}`},
		{"orders.created - --bytes", "not json", "orders.created not json"},
		{"orders.created x --bytes --deliver-at 10m", "", "orders.created x 600"},
		{"orders.created --deliver-at 2036-01-31T12:00:00+01:00", "", ""},
	} {
		id := strings.TrimSpace(runCommand(t, env, c.stdin, append([]string{"enqueue"}, strings.Fields(c.args)...)...).ok().out)
		if got := row(id); got != c.want && c.want != "" {
			t.Errorf("enqueue %s: %q, want %q", c.args, got, c.want)
		}
	}
	on(t, db.URL(), "enqueue", "orders created").fails(`topic "orders created"`)
	on(t, db.URL(), "enqueue", "orders.*").fails(`topic "orders.*"`)
	on(t, db.URL(), "enqueue", "a.b", "{").fails("not JSON", "--bytes")
	on(t, db.URL(), "enqueue", "a.b", "--header", "x").fails(`header "x": must be NAME=VALUE`)
	on(t, db.URL(), "enqueue", "a.b", "--priority", "7").fails(`priority 7: must be from 1 (first) to 4 (last)`)
	id := strings.TrimSpace(on(t, db.URL(), "enqueue", "orders.created", "--priority", "1").ok().out)
	var priority int
	if err := db.Conn(t).QueryRow(t.Context(), "SELECT priority FROM postrider.outbox WHERE id = $1::text::bigint", id).Scan(&priority); err != nil || priority != 1 {
		t.Errorf("enqueue --priority 1: priority %d, %v", priority, err)
	}
	on(t, db.URL(), "enqueue", "a.b", "--deliver-at", "soon").fails(`deliver-at "soon"`)
	on(t, db.URL(), "status").ok("There are no subscriptions")
}

func TestUniqueByCommand(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	enqueue := func(more ...string) string {
		t.Helper()
		return strings.TrimSpace(on(t, db.URL(), append([]string{"enqueue", "orders.created", "{}", "--unique-key", "k", "--unique-scope", "pending:billing"}, more...)...).ok().out)
	}
	first := enqueue()
	if got := enqueue(); got != first+" duplicate" {
		t.Errorf("the second time: %s, want %s duplicate", got, first)
	}
	second := enqueue("--unique-replace", "--bytes")
	if strings.Contains(second, "duplicate") || second == first {
		t.Errorf("with --unique-replace: %s after %s", second, first)
	}
	if got := enqueue(); got != second+" duplicate" {
		t.Errorf("after that: %s, want %s duplicate", got, second)
	}
	if got, want := oneText(t, db, `SELECT string_agg(concat_ws(' ', id, waiting, reason), ', ') FROM postrider.cancels`), first+" t superseded by message "+second; got != want {
		t.Errorf("to be cancelled: %s, want %s", got, want)
	}
	on(t, db.URL(), "enqueue", "a.b", "--unique-replace").fails("unique-replace true without a unique-key: give --unique-key KEY --unique-scope pending:SUBSCRIPTION")
	on(t, db.URL(), "enqueue", "a.b", "--unique-replace", "--unique-key", "k", "--unique-scope", "1h").fails(`unique_replace true with unique_scope "1h": must be pending:SUBSCRIPTION`)
	on(t, db.URL(), "enqueue", "a.b", "--unique-key", "k").fails(`unique-key "k" with unique-scope "": give both or neither`)
}

func TestStatus(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	on(t, db.URL(), "enqueue", "orders.created").ok()
	park(t, db)
	db.Exec(t, `WITH r AS (INSERT INTO postrider.relays (schema, incarnation, name, version, started_at) VALUES (99, gen_random_uuid(), 'host-a', 'v1', now() - interval '90 minutes') RETURNING incarnation)
		UPDATE postrider.cursors SET owner = (SELECT incarnation FROM r), trouble = 'connection refused' WHERE subscription = 'billing'`)
	on(t, db.URL(), "status").ok(
		"SUBSCRIPTION STATE OWNER LAG LAG TIME RETRYING HELD SCHEDULED LEASED DEAD SEGMENTS TROUBLE",
		"billing active host-a 1 ", " 1 1 1 1 2 1 connection refused",
		"bus active - 1 ", "host-a v1 1h 30m ago 1")
	var report admin.StatusReport
	if err := json.Unmarshal([]byte(on(t, db.URL(), "status", "--json").ok().out), &report); err != nil {
		t.Fatal(err)
	}
	if s := report.Subscriptions[0]; s.Name != "billing" || s.LagMessages != 1 || s.LagSeconds <= 0 || s.Dead != 2 || s.Discarded != 1 || s.Owner != "host-a" {
		t.Errorf("billing in JSON: %+v", s)
	}
	if r := report.Relays[0]; r.Name != "host-a" || r.Subscriptions != 1 {
		t.Errorf("the relay in JSON: %+v", r)
	}
}

// park gives the subscription billing a message of each state, and two dead ones.
func park(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, `INSERT INTO postrider.parked (subscription, id, state, attempts, due, reason, created_at, topic, key, payload, body, headers) VALUES
		('billing', 101, 'retrying', 3, now() + interval '119 minutes', 'status 503', now(), 'orders.paid', 'k', '{"n": 1}', NULL, NULL),
		('billing', 102, 'held', 0, NULL, 'behind 101', now(), 'orders.paid', 'k', '{"n": 2}', NULL, NULL),
		('billing', 103, 'scheduled', 0, now() + interval '2 days', NULL, now(), 'orders.due', NULL, '{}', NULL, NULL),
		('billing', 107, 'leased', 1, now() + interval '3 days', NULL, now(), 'orders.paid', 'y', '{}', NULL, NULL),
		('billing', 104, 'dead', 20, NULL, E'status 400:\nno \x1b[31m such order', now(), 'orders.paid', 'x', '{"amount": 7}', NULL, '{"a": "b"}'),
		('billing', 105, 'dead', 1, NULL, 'too large', now(), 'orders.scan', NULL, NULL, '\x00ff', NULL),
		('billing', 106, 'discarded', 1, NULL, 'nobody wants it', now(), 'orders.scan', NULL, NULL, 'some text', NULL)`)
}

func TestParked(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	parked := func(args ...string) result {
		t.Helper()
		return on(t, db.URL(), append([]string{"parked"}, args...)...)
	}
	parked("list").ok("Nothing is parked.")
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	park(t, db)

	parked("list").ok("billing 101 retrying 3 in 1h 5", "orders.paid k", "status 503", "102 held", "103 scheduled 0 in 1d 23h", "104 dead 20 -",
		"status 400: no �[31m such order").lacks("106", "\x1b")
	parked("list", "bus").ok("Nothing is parked.")
	parked("list", "billing", "--state", "dead,discarded").ok("104", "105", "106 discarded").lacks("101")
	parked("list", "--limit", "2").ok("101", "… and 4 more").lacks("103")
	parked("list", "--json").ok(`"id": 104`, `"state": "dead"`, `"key": null`)
	parked("list", "--state", "died").fails(`state "died": must be one of retrying, held, scheduled, leased, failed, completed, dead, discarded`)
	parked("list", "--limit", "0").fails("limit 0")
	parked("list", "biling").fails(`did you mean "billing"?`)

	parked("show", "billing", "104").ok("state dead", "reason status 400:", `headers {"a": "b"}`, `"amount": 7`).lacks("\x1b")
	parked("show", "billing", "105").ok("00 ff")
	parked("show", "billing", "106").ok("some text")
	parked("show", "billing", "105", "--json").ok(`"body_base64": "AP8="`, `"headers": null`)
	parked("show", "billing", "104", "--json").ok(`"amount": 7`)
	parked("show", "billing", "7").fails("message 7", "is not parked")
	parked("show", "billing", "x").fails(`id "x": must be a number`)

	parked("redrive", "billing").fails("either ids or --all")
	parked("redrive", "billing", "104", "--all").fails("either ids or --all")
	parked("redrive", "biling", "--all").fails("did you mean")
	parked("redrive", "billing", "104", "102", "999").fails("message 102 is held: redrive does nothing to it", "message 999 is not parked").has("1 message of subscription")
	parked("show", "billing", "107").ok("state leased", "due ", "(in 2d 23h")
	parked("redrive", "billing", "107").ok("1 message of subscription")
	parked("list", "--state", "leased,completed,failed").ok("Nothing is parked.")
	parked("redrive", "billing", "--all").ok("1 message of subscription")
	parked("redrive", "billing", "--all").ok("has no dead letters")
	parked("list", "--state", "dead").ok("Nothing is parked.")
	parked("discard", "billing", "--all").ok("has no dead letters")
	parked("discard", "billing", "103", "104").ok("2 messages of subscription \"billing\" discarded")
	parked("discard", "billing", "103").fails("message 103 is discarded").lacks("0 messages")
}

// A message whose text has more than a gigabyte is shown, but for that.
func TestParkedShowOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	park(t, db)
	db.Exec(t, `UPDATE postrider.parked SET payload = (SELECT jsonb_agg('1e131071'::jsonb) FROM generate_series(1, 9000)) WHERE id = 103`)
	on(t, db.URL(), "parked", "show", "billing", "103").ok("state scheduled", "due ", "topic orders.due", "What it carries cannot be read: ", "54000")
	on(t, db.URL(), "parked", "show", "billing", "103", "--json").ok(`"state": "scheduled"`, `"unreadable": "`).lacks(`"payload"`)
}

func TestRebase(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "rebase").ok("belongs to this database already")
	db.Exec(t, "UPDATE postrider.source SET system_identifier = 1")
	on(t, db.URL(), "enqueue", "a.b").ok()
	on(t, db.URL(), "rebase").fails("--yes")
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).fails("copied into this database", "hint: Run postrider rebase")
	on(t, db.URL(), "rebase", "--yes").ok("The outbox, with 1 message, belongs to this database now")
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok("billing created")
	on(t, db.URL(), "doctor").ok("ok identity")
}

// A rebase keeps the id that messages have on the wire, unless it is told not to.
func TestRebaseKeepsTheSourceID(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	source := func() (id string) {
		t.Helper()
		if err := db.Conn(t).QueryRow(t.Context(), "SELECT id FROM postrider.source").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	was := source()
	db.Exec(t, "UPDATE postrider.source SET system_identifier = 1")
	on(t, db.URL(), "rebase", "--yes").ok("repeats of what the old database has sent carry the same ids")
	if source() != was {
		t.Errorf("the source id was %s, is %s", was, source())
	}
	db.Exec(t, "UPDATE postrider.source SET system_identifier = 1")
	on(t, db.URL(), "rebase", "--yes", "--new-source-id").ok("carry ids on the wire that no receiver has seen")
	if source() == was {
		t.Error("the source id is the old one")
	}
}

// A rebase that cannot have the outbox changes nothing and names who uses it.
func TestRebaseNamesWhoIsInTheWay(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "UPDATE postrider.source SET system_identifier = 1")
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "SET application_name = 'the_writer'; BEGIN; SELECT postrider.enqueue('a', '1')"); err != nil {
		t.Fatal(err)
	}
	on(t, db.URL(), "rebase", "--yes").fails("could not be locked within 10s, nothing is changed", fmt.Sprintf("process %d", conn.PgConn().PID()),
		`application "the_writer", idle in transaction since 2`)
	on(t, db.URL(), "doctor").fails("check failed").has("fail identity")
}

// A table holds times that JSON does not, and ids that came twice.
func TestParkedWithOddTimesAndTwins(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	on(t, db.URL(), "subs", "apply", writeFile(t, twoSubscriptions)).ok()
	db.Exec(t, `INSERT INTO postrider.parked (subscription, id, state, due, created_at, topic, payload) VALUES
		('billing', 1, 'retrying', 'infinity', '-infinity', 'a', '1'), ('billing', 2, 'retrying', '294276-12-31', 'infinity', 'a', '2'),
		('billing', 3, 'discarded', NULL, '2026-01-01', 'a', '3'), ('billing', 3, 'dead', NULL, '2026-01-02', 'a', '33'),
		('billing', 3, 'completed', NULL, '2026-01-03', 'a', '333')`)
	on(t, db.URL(), "parked", "list", "billing").ok("1 retrying", "2 retrying", "3 dead", "3 completed")
	on(t, db.URL(), "parked", "list", "billing", "--json").ok("9999-12-31T00:00:00Z", "0001-01-02T00:00:00Z")
	on(t, db.URL(), "parked", "show", "billing", "3").ok("333")
	on(t, db.URL(), "parked", "redrive", "billing", "3").ok("2 messages")
}

// A filter is checked where it is applied, with its place in the file, and shows as it was written.
func TestApplyFilters(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	const file = "subscriptions:\n  - name: large\n    topics: [orders.>]\n    sink: 'stdout:'\n    filter: |\n      payload.total > 100 &&\n      headers.region == \"eu\"\n"
	apply := func(text string, flags ...string) result {
		return on(t, db.URL(), append([]string{"subs", "apply", writeFile(t, text)}, flags...)...)
	}
	apply(strings.Replace(file, "headers", "hedaers", 1)).fails("subs.yaml:7: filter: line 2, column 1: nothing is called 'hedaers' (did you mean 'headers'?)")
	apply(file).ok("large created")
	apply(file).ok("large unchanged")
	on(t, db.URL(), "subs", "list").ok(`filter=payload.total > 100 && headers.region == "eu"`)
	apply(strings.Replace(file, "> 100", "> 200", 1), "--dry-run").ok(`> 100 && headers.region == "eu" → payload.total > 200 &&`)
	apply(strings.Replace(file, "'stdout:'", "'sql:'", 1)).fails("filter, transform: a subscription with the sink sql: has neither")
}
