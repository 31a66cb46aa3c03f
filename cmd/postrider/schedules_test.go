package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const twoSchedules = `
schedules:
  - name: nightly
    cron: 30 2 * * *
    zone: Europe/Berlin
    topic: reports.nightly
    key: reports
    payload: {format: pdf, pages: 12}
    headers: {team: finance, answer: 42}
    priority: 3
    missed: all(3)
  - {name: often, cron: "*/5 * * * *", topic: ticks}
`

func TestSchedules(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	do := func(args ...string) result { return on(t, db.URL(), append([]string{"schedules"}, args...)...) }
	do("list").ok("There are no schedules.")
	path := writeFile(t, twoSchedules)
	do("apply", path, "--dry-run").ok("nightly created", "often created", "This was a dry run: nothing was changed.")
	do("list").ok("There are no schedules.")
	do("apply", path).ok("nightly created", "often created")
	do("apply", path).ok("nightly unchanged", "often unchanged")
	do("list").ok("nightly active 30 2 * * * Europe/Berlin reports.nightly", "02:30:00 +0", "often active */5 * * * * UTC ticks")
	do("list", "--json").ok(`"missed": "all(3)"`, `"answer": "42"`, `"pages": 12`, `"key": "reports"`, `"priority": 3`)

	changed := writeFile(t, strings.NewReplacer("pages: 12", "pages: 13", "30 2", "45 2", "    key: reports\n", "").Replace(twoSchedules[:strings.Index(twoSchedules, "  - {name: often")]))
	do("apply", changed, "--dry-run").ok("cron: 30 2 * * * → 45 2 * * *", `"pages":12} → {"format":"pdf","pages":13}`, `key: "reports" → nothing`).lacks("often", "zone")
	do("apply", changed, "--prune").fails("prune would remove what is not named: often. Nothing was changed: with yes it is done")
	do("apply", changed).ok("nightly changed").lacks("often") // another deployment's
	do("list").ok("often active")
	do("apply", changed, "--prune", "--yes").ok("nightly unchanged", "often removed")
	do("list").ok("nightly").lacks("often")

	do("pause", "nightly", "--reason", "books are closed").ok(`"nightly" is paused`)
	do("list").ok("nightly paused", "books are closed")
	do("apply", changed).ok("nightly unchanged")
	on(t, db.URL(), "status").ok("nightly paused", "books are closed")
	do("run", "nightly").ok(`Schedule "nightly" is run: message `)
	if n := one[int64](t, db, "SELECT count(*) FROM postrider.outbox WHERE topic = 'reports.nightly' AND headers ->> 'schedule' = 'nightly'"); n != 1 {
		t.Errorf("%d messages", n)
	}
	do("resume", "nightly").ok(`"nightly" is active`)
	on(t, db.URL(), "status").ok().lacks("nightly")
	do("pause", "nightli").fails(`there is no schedule "nightli"; did you mean "nightly"?`)
	do("run", "other").fails(`there is no schedule "other"`)
	do("remove", "nightly").ok(`"nightly" is removed`)
	do("remove", "nightly").fails(`there is no schedule "nightly": there are none at all`)
}

// All problems of a file are told at once, each with its line.
func TestSchedulesFileProblems(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	apply := func(text string) result { return on(t, db.URL(), "schedules", "apply", writeFile(t, text)) }
	apply(`schedules:
  - name: Bad
    cron: 61 * * * *
    zone: Europe/Berlinn
    topic: a.*
    missed: every
    priority: 7
    headers: {planned: x}
    payloat: {}
  - {name: two, topic: t}
  - {name: two, cron: "* * * * * *", topic: t, priority: first}
`).fails("has 12 problems", `:2: name "Bad": must be`, `:3: cron "61 * * * *": minute "61": "61" must be from 0 to 59`, `:4: zone "Europe/Berlinn" is not known`,
		`:5: `, `:6: missed "every": must be skip, last or all(n)`, ":7: priority 7: must be", ":8: headers: schedule and planned are set by Postrider",
		`:9: `, "payload", ":10: a schedule without cron", `:11: the name "two" is taken by the schedule in line 10`, ":11: cron", `:11: priority "first"`)
	apply("subscriptions: []").fails("subscriptions are not applied by this command")
	apply("").fails("no schedules: the file looks like")
	on(t, db.URL(), "schedules", "list").ok("There are no schedules.")
}

// What SQL cannot judge shows in list, status and doctor, before and after a relay has looked at it.
func TestSchedulesInTrouble(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	db.Exec(t, "SELECT postrider.put_schedule('never', '0 0 30 2 *', 't'), postrider.put_schedule('late', '0 0 1 1 *', 't'), postrider.put_schedule('abbreviated', '* * * * *', 't', zone => 'CEST')")
	db.Exec(t, "UPDATE postrider.schedules SET next_run = now() - interval '2 hours', due = now() - interval '2 hours' WHERE name = 'late'")
	want := []string{"never trouble", "there is no such day", `zone "CEST" is not known`, "late late", "due for 2h"}
	on(t, db.URL(), "schedules", "list").ok(want...)
	on(t, db.URL(), "status").ok(want...)
	on(t, db.URL(), "doctor").has(`"never" cannot be fired`, `"abbreviated" cannot be fired`, `"late" has been due for 2h`)
	p := start(t, append(sidecar(db.URL(), "stdout:", "nothing"), "POSTRIDER_NAME=r")...)
	p.waitFor("schedules cannot be fired")
	eventually(t, "the relay has said what is wrong, and fired the rest", func() bool {
		return one[bool](t, db, "SELECT count(*) FILTER (WHERE trouble IS NOT NULL) = 2 AND bool_or(last_run IS NOT NULL) FROM postrider.schedules")
	})
	on(t, db.URL(), "schedules", "list").ok("never trouble", "late active")
}

// Ten thousand schedules that are due at one moment are all fired, each once, while two relays are killed in turn and started again.
func TestTenThousandSchedules(t *testing.T) {
	db := newDB(t)
	const n, rounds = 10_000, 4
	db.Exec(t, fmt.Sprintf("SELECT postrider.put_schedule('s' || i, '0 0 1 1 *', 'ticks.' || i %% 10, missed => 'all(3)') FROM generate_series(1, %d) i", n))
	launch := func(name string) *process {
		return start(t, append(sidecar(db.URL(), "stdout:", "nothing"), "POSTRIDER_NAME="+name)...)
	}
	relays := []*process{launch("first"), launch("second")}
	for _, p := range relays {
		p.waitFor("relay started")
	}
	pool := db.Pool(t)
	yes := func(sql string) (v bool) {
		if err := pool.QueryRow(t.Context(), "SELECT "+sql).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	planned := func() bool { return yes("NOT EXISTS (SELECT FROM postrider.schedules WHERE due <= clock_timestamp())") }
	eventually(t, "all are planned", planned)
	base := one[string](t, db, "SELECT date_trunc('minute', now())::text")
	for round := range rounds {
		at := fmt.Sprintf("('%s'::timestamptz - %d * interval '1 minute')", base, round)
		db.Exec(t, "UPDATE postrider.schedules SET next_run = "+at+", due = clock_timestamp()")
		// In the middle of it, one of them goes.
		eventually(t, "some are fired", func() bool {
			return yes("EXISTS (SELECT FROM postrider.outbox WHERE (headers ->> 'planned')::timestamptz = " + at + ")")
		})
		killed := relays[round%2]
		if err := killed.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		killed.ends()
		eventually(t, "all are fired", planned)
		relays[round%2] = launch(fmt.Sprint("again-", round))
		relays[round%2].waitFor("relay started")
	}
	fired := one[string](t, db, `SELECT count(*) || ' messages, ' || count(DISTINCT (headers ->> 'schedule', headers ->> 'planned')) || ' runs' FROM postrider.outbox`)
	if want := fmt.Sprintf("%d messages, %[1]d runs", n*rounds); fired != want {
		t.Errorf("%s, want %s", fired, want)
	}
	// How long the slowest took is told, not judged: on a busy machine it says nothing.
	took := one[string](t, db, `SELECT string_agg(took, ', ') FROM (SELECT (max(created_at) - min(created_at))::text AS took FROM postrider.outbox GROUP BY headers ->> 'planned') x`)
	t.Logf("from the first to the last: %s", took)
}

// The hour at which it was planned for comes to a subscriber like any message.
func TestScheduleIsDelivered(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	url, received := webhookReceiver(t, func(*http.Request) int { return 200 })
	p := start(t, sidecar(db.URL(), url, "ticks")...)
	p.waitFor("relay started")
	on(t, db.URL(), "schedules", "apply", writeFile(t, "schedules: [{name: tick, cron: '@yearly', topic: ticks, payload: {a: 1}}]")).ok("tick created")
	eventually(t, "it is planned", func() bool { return one[bool](t, db, "SELECT next_run IS NOT NULL FROM postrider.schedules") })
	db.Exec(t, "UPDATE postrider.schedules SET next_run = now(), due = now()")
	if got := receive(t, received); !strings.Contains(got, `"a"`) {
		t.Errorf("received %s", got)
	}
}
