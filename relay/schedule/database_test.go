package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/relay/store"
)

func TestMain(m *testing.M) {
	pgtest.Template(func(url string) error {
		_, err := migrations.Up(context.Background(), url)
		return err
	})
	pgtest.Main(m)
}

// bench is a database with relays of least privilege on it.
type bench struct {
	*testing.T
	admin *pgxpool.Pool
	pool  *dbconn.Pool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchWith(t, "")
}

// newBenchWith has settings in the relays' connection string.
func newBenchWith(t *testing.T, settings string) *bench {
	t.Helper()
	db := pgtest.New(t)
	b := &bench{T: t, admin: db.Pool(t)}
	role := db.Role(t, "relay", "")
	b.exec(migrations.TimerGrants(role))
	config, err := dbconn.ParseConfig(db.RoleURL(role) + settings)
	if err != nil {
		t.Fatal(err)
	}
	if b.pool, err = dbconn.NewPool(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.pool.Close)
	return b
}

func (b *bench) exec(sql string, args ...any) {
	b.Helper()
	if _, err := b.admin.Exec(b.Context(), sql, args...); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
}

func value[T any](b *bench, sql string, args ...any) (v T) {
	b.Helper()
	if err := b.admin.QueryRow(b.Context(), sql, args...).Scan(&v); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
	return v
}

// watched is a store in which a test can come between.
type watched struct {
	store.Schedules
	before func()
}

func (w *watched) Fire(ctx context.Context, list []store.Firing) (moved, fired int, err error) {
	if before := w.before; before != nil {
		w.before = nil
		before()
	}
	return w.Schedules.Fire(ctx, list)
}

func (b *bench) scheduler() (*Scheduler, *watched) {
	w := &watched{Schedules: store.Schedules{Pool: b.pool}}
	return &Scheduler{Store: w, Log: slog.New(slog.DiscardHandler), Fired: prometheus.NewCounter(prometheus.CounterOpts{}), Missed: prometheus.NewCounter(prometheus.CounterOpts{}), Report: func(error) {}}, w
}

// settle steps until nothing is due that can be fired.
func (b *bench) settle(s *Scheduler) {
	b.Helper()
	for {
		wait, err := s.step(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if wait > 0 {
			return
		}
	}
}

// due makes the next run of schedules one that was planned for a minute, some minutes ago.
func (b *bench) due(minutes int, names string) {
	b.Helper()
	b.exec(`UPDATE postrider.schedules s SET next_run = n.at, due = n.at
		FROM (SELECT date_trunc('minute', clock_timestamp()) - $1::integer * interval '1 minute' AS at) n WHERE s.name ~ $2`, minutes, names)
}

const runsOf = "SELECT count(*) FROM postrider.outbox WHERE headers ->> 'schedule' ~ $1"

// A schedule that is put in SQL is planned, and fired with all that it says.
func TestScheduleInSQL(t *testing.T) {
	b := newBench(t)
	s, _ := b.scheduler()
	if got := value[string](b, `SELECT postrider.put_schedule('report', '30 6 * * 1-5', 'reports.daily', '{"a": 1}', key => 'k', headers => '{"x": "y"}', zone => 'Europe/Berlin', priority => 1)`); got != "created" {
		t.Errorf("put: %s", got)
	}
	b.settle(s)
	if !value[bool](b, `SELECT next_run > now() AND due = next_run AND extract(hour FROM next_run AT TIME ZONE 'Europe/Berlin') = 6
		AND extract(minute FROM next_run) = 30 AND trouble IS NULL AND last_run IS NULL FROM postrider.schedules`) {
		t.Error("it is not planned")
	}
	b.due(0, "report")
	planned := value[time.Time](b, "SELECT next_run FROM postrider.schedules")
	b.settle(s)
	got := value[string](b, `SELECT topic || ' ' || key || ' ' || payload || ' ' || priority || ' ' || (headers ->> 'x') || ' ' || (headers ->> 'schedule') || ' ' || (headers ->> 'planned') FROM postrider.outbox`)
	if want := `reports.daily k {"a": 1} 1 y report ` + planned.UTC().Format(time.RFC3339); got != want {
		t.Errorf("the message: %s\nwant %s", got, want)
	}
	if !value[bool](b, "SELECT last_run = $1 AND next_run > now() AND due = next_run FROM postrider.schedules", planned) {
		t.Error("it did not move on")
	}
}

// Two relays at once fire all that is due once each, also where there are several pages of it.
func TestRelaysShareWhatIsDue(t *testing.T) {
	b := newBench(t)
	const n = 2*page + 100
	b.exec(`SELECT postrider.put_schedule('s' || i, '* * * * *', 't.' || i, to_jsonb(i)) FROM generate_series(1, $1::int) i`, n)
	first, _ := b.scheduler()
	b.settle(first)
	for range 3 {
		b.exec("TRUNCATE postrider.outbox")
		b.due(1, "^s")
		var group sync.WaitGroup
		for range 2 {
			s, _ := b.scheduler()
			group.Go(func() {
				for value[bool](b, "SELECT EXISTS (SELECT FROM postrider.schedules WHERE due <= clock_timestamp() - interval '30 seconds')") {
					if _, err := s.step(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		twice := value[int](b, "SELECT count(*) FROM (SELECT FROM postrider.outbox GROUP BY headers ->> 'schedule', headers ->> 'planned' HAVING count(*) > 1) x")
		all := value[int](b, "SELECT count(DISTINCT headers ->> 'schedule') FROM postrider.outbox")
		if twice != 0 || all != n {
			t.Errorf("%d of %d have fired, %d runs twice", all, n, twice)
		}
	}
}

// What changes, pauses or goes after a relay has decided is not fired as it was: a change counts at once.
// Before a pooler in transaction mode nothing can be prepared: what the server says of a statement's arguments is not known.
func TestFireWithoutPreparing(t *testing.T) {
	t.Parallel()
	b := newBenchWith(t, "&default_query_exec_mode=exec")
	b.exec(`SELECT postrider.put_schedule('good', '* * * * *', 'reports.x'), postrider.put_schedule('late', '* * * * *', 'reports.x', missed => 'all(3)'),
		postrider.put_schedule('never', '0 0 30 2 *', 'reports.x')`)
	b.exec("UPDATE postrider.schedules SET planned_from = clock_timestamp() - interval '10 minutes'")
	s, _ := b.scheduler()
	b.settle(s)
	if n := value[int](b, "SELECT count(*)::int FROM postrider.outbox"); n != 4 {
		t.Errorf("%d runs were fired, want one and three", n)
	}
	if n := value[int](b, "SELECT count(*)::int FROM postrider.schedules WHERE trouble IS NOT NULL OR next_run > clock_timestamp()"); n != 3 {
		t.Errorf("%d schedules have moved on or are in trouble, want all three", n)
	}
}

func TestChangeWhileDue(t *testing.T) {
	b := newBench(t)
	s, w := b.scheduler()
	for name, c := range map[string]struct{ change, want string }{
		"topic":   {"SELECT postrider.put_schedule($1, '0 0 1 1 *', 'new.topic')", "new.topic"},
		"cron":    {"SELECT postrider.put_schedule($1, '0 0 2 1 *', 'old.topic')", ""},
		"paused":  {"SELECT postrider.pause_schedule($1)", ""},
		"removed": {"SELECT postrider.remove_schedule($1)", ""},
		"again":   {"SELECT postrider.pause_schedule($1), postrider.resume_schedule($1)", ""},
		"fired":   {"UPDATE postrider.schedules SET next_run = next_run + interval '1 year', due = due + interval '1 year' WHERE name = $1", ""},
		"same":    {"SELECT postrider.put_schedule($1, '0 0 1 1 *', 'old.topic')", "old.topic"},
	} {
		b.exec("TRUNCATE postrider.outbox, postrider.schedules")
		b.exec("SELECT postrider.put_schedule($1, '0 0 1 1 *', 'old.topic')", name)
		b.settle(s)
		b.due(0, name)
		w.before = func() { b.exec(c.change, name) }
		b.settle(s)
		b.settle(s) // the first one may have been overtaken
		if w.before != nil {
			t.Fatalf("%s: nothing was fired", name)
		}
		if got := value[string](b, "SELECT coalesce(string_agg(topic, ' '), '') FROM postrider.outbox"); got != c.want {
			t.Errorf("%s: messages %q, want %q", name, got, c.want)
		}
	}
}

// What somebody has locked waits for him alone.
func TestLockedSchedule(t *testing.T) {
	b := newBench(t)
	s, _ := b.scheduler()
	b.exec("SELECT postrider.put_schedule('s' || i, '* * * * *', 't') FROM generate_series(1, 1200) i")
	b.settle(s)
	b.due(0, ".")
	tx, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT FROM postrider.schedules WHERE name < 's5' FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	b.settle(s)
	locked := value[int](b, "SELECT count(*) FROM postrider.schedules WHERE name < 's5'")
	if fired := value[int](b, runsOf, "."); fired != 1200-locked || locked < 400 {
		t.Errorf("%d fired, %d are locked", fired, locked)
	}
	if wait, err := s.step(t.Context()); err != nil || wait != again {
		t.Errorf("the next look is in %s, %v", wait, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.settle(s)
	if twice := value[int](b, "SELECT count(*) - count(DISTINCT (headers ->> 'schedule', headers ->> 'planned')) FROM postrider.outbox"); twice != 0 {
		t.Errorf("%d were fired twice", twice)
	}
	if all := value[int](b, "SELECT count(DISTINCT headers ->> 'schedule') FROM postrider.outbox"); all != 1200 {
		t.Errorf("%d were fired", all)
	}
}

// A relay that is killed while it fires has fired nothing, and what it was at is due for the next one.
func TestKilledWhileFiring(t *testing.T) {
	b := newBench(t)
	s, w := b.scheduler()
	b.exec("SELECT postrider.put_schedule('s' || i, '* * * * *', 't') FROM generate_series(1, 10) i")
	b.settle(s)
	b.due(0, ".")
	tx, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.before = func() {
		if _, err := tx.Exec(t.Context(), "LOCK TABLE postrider.outbox IN SHARE MODE"); err != nil {
			t.Error(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.step(t.Context())
		done <- err
	}()
	for !value[bool](b, "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity WHERE query ~ 'fire_schedules' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()") {
		if t.Context().Err() != nil || len(done) > 0 {
			t.Fatal("it was never at it")
		}
	}
	if err := <-done; err == nil {
		t.Error("a killed connection was no error")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := value[int](b, "SELECT count(*) FROM postrider.outbox"); n != 0 {
		t.Errorf("%d messages of a killed one", n)
	}
	other, _ := b.scheduler()
	b.settle(other)
	if n := value[int](b, "SELECT count(DISTINCT headers ->> 'schedule') FROM postrider.outbox"); n != 10 {
		t.Errorf("%d were fired", n)
	}
}

// A message that the database refuses is the trouble of its schedule alone; its run waits, and comes when it is mended.
func TestRefusedMessage(t *testing.T) {
	b := newBench(t)
	s, _ := b.scheduler()
	b.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.topic = 'bad.topic' THEN RAISE EXCEPTION 'no % here', NEW.topic; END IF; RETURN NEW; END $$`)
	b.exec("CREATE TRIGGER refuse BEFORE INSERT ON postrider.outbox FOR EACH ROW EXECUTE FUNCTION refuse()")
	b.exec("SELECT postrider.put_schedule('s' || i, '* * * * *', CASE WHEN i % 100 = 7 THEN 'bad.topic' ELSE 'good' END, missed => 'all(5)') FROM generate_series(1, 600) i")
	b.settle(s)
	b.due(0, ".")
	b.settle(s)
	const state = "SELECT count(*) FROM postrider.schedules WHERE trouble ~ 'no bad.topic here' AND last_run IS NULL AND next_run < now() AND due > now()"
	if good, troubled := value[int](b, runsOf, "."), value[int](b, state); good < 594 || troubled != 6 {
		t.Errorf("%d have fired, %d are in trouble", good, troubled)
	}
	b.exec("DROP TRIGGER refuse ON postrider.outbox")
	b.exec("UPDATE postrider.schedules SET due = now() WHERE trouble IS NOT NULL") // a minute passes
	b.settle(s)
	if !value[bool](b, "SELECT count(*) = 6 AND bool_and(trouble IS NULL AND last_run IS NOT NULL AND due > last_run) FROM postrider.schedules WHERE topic = 'bad.topic'") {
		t.Error("what was mended does not go on")
	}
	if n := value[int](b, "SELECT count(DISTINCT headers ->> 'schedule') FROM postrider.outbox WHERE topic = 'bad.topic'"); n != 6 {
		t.Errorf("%d of 6 came after all", n)
	}
}

// The commit that fires waits for what the server's setting says, not for less.
func TestFiresDurably(t *testing.T) {
	b := newBench(t)
	s, _ := b.scheduler()
	b.exec("CREATE TABLE seen (setting text); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$")
	b.exec("CREATE TRIGGER see AFTER INSERT ON postrider.outbox FOR EACH ROW EXECUTE FUNCTION see()")
	b.exec("SELECT postrider.put_schedule('s', '* * * * *', 't')")
	b.settle(s)
	b.due(0, "s")
	b.settle(s)
	if got := value[string](b, "SELECT string_agg(DISTINCT setting, ' ') FROM seen"); got != value[string](b, "SHOW synchronous_commit") || got == "local" {
		t.Errorf("committed with %s", got)
	}
}

// A quiet relay asks one cheap question a second, whatever there is to come.
func TestIdleSteps(t *testing.T) {
	b := newBench(t)
	s, _ := b.scheduler()
	if wait, err := s.step(t.Context()); err != nil || wait != glance {
		t.Errorf("without schedules the next look is in %s, %v", wait, err)
	}
	b.exec("SELECT postrider.put_schedule('s', '0 0 1 1 *', 't')")
	b.settle(s)
	if wait, err := s.step(t.Context()); err != nil || wait != glance {
		t.Errorf("long before the next run the next look is in %s, %v", wait, err)
	}
	b.exec("UPDATE postrider.schedules SET next_run = clock_timestamp() + interval '0.9 seconds', due = clock_timestamp() + interval '0.9 seconds'")
	if wait, err := s.step(t.Context()); err != nil || wait > 900*time.Millisecond || wait < 0 {
		t.Errorf("shortly before the next run the next look is in %s, %v", wait, err)
	}
	b.exec("INSERT INTO postrider.schedules (name, cron, topic, due) SELECT 'x' || i, '0 0 1 1 *', 't', now() + i * interval '1 hour' FROM generate_series(1, 5000) i")
	b.exec("ANALYZE postrider.schedules")
	tx, err := b.admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }() // it changes nothing
	rows, err := tx.Query(t.Context(), "EXPLAIN SELECT s.due FROM postrider.schedules s WHERE s.due IS NOT NULL ORDER BY s.due LIMIT 1")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, line)
	}
	if text := strings.Join(plan, "\n"); !strings.Contains(text, "schedules_due") || strings.Contains(text, "Sort") {
		t.Errorf("the earliest is looked for by\n%s", text)
	}
}

// Bad input in SQL is told what is wrong with it, and what would be right.
func TestWhatSQLRefuses(t *testing.T) {
	b := newBench(t)
	for call, want := range map[string]string{
		"put_schedule('Bad', '* * * * *', 't')":                                "name 'Bad': must be 1 to 63 lower-case letters",
		"put_schedule(NULL, '* * * * *', 't')":                                 "name NULL: must be",
		"put_schedule('s', '* * * *', 't')":                                    "cron '* * * *': must be five fields",
		"put_schedule('s', '@reboot', 't')":                                    "cron '@reboot': must be five fields",
		"put_schedule('s', NULL, 't')":                                         "cron NULL: must be five fields",
		"put_schedule('s', '* * * * *', 't.*')":                                "topic 't.*': must be tokens",
		"put_schedule('s', '* * * * *', NULL)":                                 "topic NULL",
		"put_schedule('s', '* * * * *', 't', zone => 'Mars/Base')":             "zone 'Mars/Base' is not known: must be a name of the tz database",
		"put_schedule('s', '* * * * *', 't', zone => 'Local')":                 "zone 'Local' is not known",
		"put_schedule('s', '* * * * *', 't', zone => NULL)":                    "zone NULL is not known",
		"put_schedule('s', '* * * * *', 't', missed => 'all')":                 "missed 'all': must be skip, last or all(n)",
		"put_schedule('s', '* * * * *', 't', missed => 'all(1001)')":           "missed 'all(1001)': must be",
		"put_schedule('s', '* * * * *', 't', priority => 5)":                   "priority 5: must be from 1 (first) to 4 (last)",
		"put_schedule('s', '* * * * *', 't', NULL)":                            "payload NULL: must be JSON",
		`put_schedule('s', '* * * * *', 't', headers => '{"a": 1}')`:           `headers {"a": 1}: must be an object whose values are texts`,
		`put_schedule('s', '* * * * *', 't', headers => '[]')`:                 `headers []: must be an object`,
		`put_schedule('s', '* * * * *', 't', headers => '{"Planned": "x"}')`:   "schedule and planned are set by Postrider",
		"put_schedule('s', '* * * * *', 't', to_jsonb(repeat('x', 17000000)))": "are allowed",
		"run_schedule('nobody')":                                               "there is no schedule 'nobody'",
	} {
		_, err := b.admin.Exec(t.Context(), "SELECT postrider."+call)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", call, err, want)
		}
	}
	for _, call := range []string{"pause_schedule('nobody')", "resume_schedule('nobody')", "remove_schedule('nobody')"} {
		if value[bool](b, "SELECT postrider."+call) {
			t.Errorf("%s finds somebody", call)
		}
	}
}

// A run by hand is a message at once, in the caller's transaction, also while the schedule is paused, and changes nothing.
func TestRunByHand(t *testing.T) {
	b := newBench(t)
	s, _ := b.scheduler()
	b.exec("SELECT postrider.put_schedule('s', '0 0 1 1 *', 't')")
	b.settle(s)
	b.exec("SELECT postrider.pause_schedule('s', 'for the holidays')")
	before := value[string](b, "SELECT s::text FROM postrider.schedules s")
	id := value[int64](b, "SELECT postrider.run_schedule('s')")
	if got := value[int](b, "SELECT count(*) FROM postrider.outbox WHERE id = $1 AND headers ->> 'schedule' = 's' AND (headers ->> 'planned')::timestamptz > now() - interval '1 minute'", id); got != 1 {
		t.Error("there is no message")
	}
	if after := value[string](b, "SELECT s::text FROM postrider.schedules s"); after != before {
		t.Errorf("it changed:\n%s\n%s", before, after)
	}
	if !value[bool](b, "SELECT paused_reason = 'for the holidays' AND due IS NULL FROM postrider.schedules") {
		t.Error("the pause")
	}
	// What falls into a pause is not made up for.
	b.exec("SELECT postrider.put_schedule('s', '0 0 2 1 *', 't', missed => 'all(100)')")
	b.exec("UPDATE postrider.schedules SET planned_from = now() - interval '3 years'")
	b.settle(s)
	b.exec("SELECT postrider.resume_schedule('s')")
	b.settle(s)
	if n := value[int](b, runsOf, "s"); n != 1 {
		t.Errorf("%d messages", n)
	}
	if !value[bool](b, "SELECT next_run > now() AND paused_reason IS NULL FROM postrider.schedules") {
		t.Error("it does not go on from now")
	}
}

// Applications may not put schedules, nor relays write the table by themselves.
func TestWhoMayPutSchedules(t *testing.T) {
	b := newBench(t)
	_, err := b.pool.Exec(t.Context(), "UPDATE postrider.schedules SET due = NULL")
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the relay's role: %v", err)
	}
	if _, err := b.pool.Exec(t.Context(), "SELECT postrider.put_schedule('s', '* * * * *', 't')"); err != nil {
		t.Errorf("the relay's role: %v", err)
	}
	db := pgtest.New(t)
	role := db.Role(t, "app", "")
	db.Exec(t, migrations.AppGrants(role))
	app, err := pgxpool.New(t.Context(), db.RoleURL(role))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	for _, call := range []string{"put_schedule('s', '* * * * *', 't')", "run_schedule('s')", "remove_schedule('s')", "pause_schedule('s')", "resume_schedule('s')",
		"fire_schedules('{}', '{}', '{}', '{}', '{}', '{}', '{}')"} {
		if _, err := app.Exec(t.Context(), "SELECT postrider."+call); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("an application: %s: %v", fmt.Sprint(call), err)
		}
	}
}

// What was missed and is not made up for is told to who names it, by the statement that moves the schedule on; what was made up for is not.
func TestMissedRunsAreTold(t *testing.T) {
	b := newBench(t)
	s, _ := b.scheduler()
	for name, missed := range map[string]string{"skips": "skip", "makes-up": "all(1000)", "punctual": "skip"} {
		b.exec("SELECT postrider.put_schedule($1, '0 * * * *', 't', missed => $2)", name, missed)
	}
	b.settle(s)
	missed := func() string {
		b.due(3, "skips|makes-up")
		b.due(0, "punctual")
		b.settle(s)
		b.exec("SELECT postrider.tell_events('0')")
		return value[string](b, `SELECT coalesce(string_agg(topic || ' ' || (payload ->> 'schedule') || ' ' || (payload ->> 'count') || ' ' || (payload ->> 'reason'), ', '), '') FROM postrider.outbox WHERE event`)
	}
	if got := missed(); got != "" {
		t.Errorf("told to nobody: %s", got)
	}
	b.exec("SELECT postrider.subscribe('alerts', '{$postrider.schedule_missed.>}', 'sql:')")
	if got := missed(); got != "$postrider.schedule_missed.skips skips 1 missed: skip" {
		t.Errorf("told: %s", got)
	}
}

// pages notes which pages are read, and can be told that others fire some of them.
type pages struct {
	store.Schedules
	read  []string // the first and the last of each
	taken func(first string) bool
}

func (p *pages) Due(ctx context.Context, r store.DueRange, most int) (time.Time, []store.Schedule, error) {
	now, list, err := p.Schedules.Due(ctx, r, most)
	if len(list) > 0 {
		p.read = append(p.read, list[0].Name+"-"+list[len(list)-1].Name)
	}
	return now, list, err
}

func (p *pages) Fire(ctx context.Context, list []store.Firing) (moved, fired int, err error) {
	if p.taken(list[0].Name) {
		return 0, 0, nil
	}
	return p.Schedules.Fire(ctx, list)
}

// Two relays do not follow each other: one that finds a page taken goes on from the other end, and in the end each has been read, once.
func TestRelaysFireFromBothEnds(t *testing.T) {
	b := newBench(t)
	b.exec(`INSERT INTO postrider.schedules (name, cron, topic, next_run, due) SELECT 's' || i, '* * * * *', 't', date_trunc('minute', now()), date_trunc('minute', now())
		FROM generate_series(1000, 1000 + 5 * $1 - 1) i`, page)
	s, _ := b.scheduler()
	p := &pages{Schedules: store.Schedules{Pool: b.pool}, taken: func(first string) bool { return first == "s1000" }}
	s.Store = p
	moved, err := s.fireDue(t.Context(), false)
	want := []string{"s1000-s1499", "s3499-s3000", "s2999-s2500", "s2499-s2000", "s1999-s1500"}
	if err != nil || moved != 4*page || !slices.Equal(p.read, want) {
		t.Errorf("moved %d, %v; pages %q, want %q", moved, err, p.read, want)
	}
	// What was left is taken at the next look, wherever it is.
	p.read, p.taken = nil, func(string) bool { return false }
	if _, err := s.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := value[int](b, "SELECT count(DISTINCT headers ->> 'schedule') FROM postrider.outbox"); n != 5*page || len(p.read) != 1 {
		t.Errorf("%d schedules fired after pages %q", n, p.read)
	}
}
