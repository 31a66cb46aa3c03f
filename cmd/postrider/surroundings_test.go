package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/outbox"
	"github.com/postrider/postrider/worker"
)

// setting is one that a role or a database may have, with a value that is not the usual one.
type setting struct{ name, value string }

func (s setting) String() string { return s.name + " = " + s.value }

// oddValues are for settings of which no rule finds a value that is worth trying.
var oddValues = map[string]string{
	"application_name": "'odd'", "client_encoding": "'LATIN1'", "search_path": "public, pg_catalog", "default_text_search_config": "'pg_catalog.simple'",
	"DateStyle": "'SQL, DMY'", "TimeZone": "'Asia/Kathmandu'", "timezone_abbreviations": "'India'", "restrict_nonsystem_relation_kind": "'view'",
	"default_tablespace": "'pg_default'", "temp_tablespaces": "'pg_default'", "default_table_access_method": "'odd_heap'",
	"lc_messages": "'C.UTF-8'", "lc_monetary": "'C.UTF-8'", "lc_numeric": "'C.UTF-8'", "lc_time": "'C.UTF-8'",
	"idle_session_timeout": "'1s'", "idle_in_transaction_session_timeout": "'1s'",
	"temp_file_limit":   "'10MB'",
	"statement_timeout": "'1s'", "transaction_timeout": "'1s'", // less, and on a busy machine a session ends before it can set its own
	"createrole_self_grant": "'set, inherit'", "plpgsql.extra_errors": "'all'", "plpgsql.extra_warnings": "'all'",
}

// notTried says why a setting is left out.
var notTried = map[string]string{
	"role":                               "whose rights count is the administrator's choice",
	"session_authorization":              "the same",
	"session_replication_role":           "refused by name: TestReplicaRole",
	"transaction_isolation":              "of the transaction under way",
	"transaction_read_only":              "the same",
	"transaction_deferrable":             "the same",
	"max_stack_depth":                    "a limit of the operating system",
	"tcp_user_timeout":                   "how soon a dead connection is noticed",
	"debug_discard_caches":               "makes everything slow, and nothing else",
	"backtrace_functions":                "what is logged",
	"wal_consistency_checking":           "for the debugging of PostgreSQL",
	"dynamic_library_path":               "where PostgreSQL finds its own libraries",
	"extension_destdir":                  "the same",
	"extension_control_path":             "the same",
	"local_preload_libraries":            "the same",
	"session_preload_libraries":          "the same",
	"jit_dump_bitcode":                   "the same",
	"ignore_invalid_pages":               "for repairs",
	"debug_io_direct":                    "for the debugging of PostgreSQL",
	"debug_copy_parse_plan_trees":        "the same",
	"debug_write_read_parse_plan_trees":  "the same",
	"debug_raw_expression_coverage_test": "the same",
	"oauth_validator_libraries":          "where PostgreSQL finds libraries",
}

// oddSettings lists all settings that a role or a database may have, with odd values: the lowest ones (where zero means none, the lowest but
// that), or the highest.
func oddSettings(t *testing.T, db *pgtest.DB, high bool) []setting {
	t.Helper()
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "LOAD 'plpgsql'"); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `SELECT name, vartype, setting, coalesce(min_val, ''), coalesce(max_val, ''), coalesce(enumvals, '{}') FROM pg_settings
		WHERE context IN ('user', 'superuser') ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	var all []setting
	var name, kind, value, low, most string
	var enum []string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind, &value, &low, &most, &enum}, func() error {
		odd, known := oddValues[name]
		switch {
		case notTried[name] != "":
			return nil
		case known:
		case kind == "bool":
			odd = map[string]string{"on": "off", "off": "on"}[value]
		case kind == "enum":
			odd = "'" + enum[(slices.Index(enum, value)+1)%len(enum)] + "'"
		case kind == "string":
			t.Errorf("%s: no odd value is known for it", name)
			return nil
		default:
			if odd = low; high {
				odd = most
			}
			if odd == value && !high { // zero, for most of them
				odd = "1"
			}
		}
		all = append(all, setting{name, odd})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("only %d settings", len(all))
	}
	return all
}

// Whatever role and database set, everything works: all settings at once. If that fails, it looks for the one that is to blame.
func TestAnySettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		on   string
		high bool
	}{{"ROLE", false}, {"ROLE", true}, {"DATABASE", false}} {
		t.Run(fmt.Sprintf("%s high=%t", c.on, c.high), func(t *testing.T) {
			t.Parallel()
			tryWith(t, c.on, oddSettings(t, pgtest.Empty(t), c.high))
		})
	}
}

func tryWith(t *testing.T, on string, settings []setting) {
	t.Helper()
	works := t.Run(fmt.Sprintf("%d from %s", len(settings), settings[0].name), func(t *testing.T) { worksWith(t, on, settings) })
	switch n := len(settings); {
	case works:
	case n == 1:
		t.Errorf("ALTER %s … SET %s breaks it", on, settings[0])
	default:
		tryWith(t, on, settings[:n/2])
		tryWith(t, on, settings[n/2:])
	}
}

// worksWith makes a database, a role that owns it and the settings, and uses everything once.
func worksWith(t *testing.T, where string, settings []setting) {
	db := pgtest.Empty(t)
	role := db.Role(t, "odd", "REPLICATION")
	target := map[string]string{"ROLE": role, "DATABASE": db.Name}[where]
	var sql strings.Builder
	fmt.Fprintf(&sql, "ALTER DATABASE %q OWNER TO %q; CREATE ACCESS METHOD odd_heap TYPE TABLE HANDLER heap_tableam_handler;", db.Name, role)
	for _, s := range settings {
		fmt.Fprintf(&sql, "ALTER %s %q SET %s = %s;", where, target, s.name, s.value)
	}
	db.Exec(t, "LOAD 'plpgsql';"+sql.String())
	url := db.RoleURL(role)
	on(t, url, "migrate").ok("applied")
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	worksInSQL(t, pool)
	on(t, url, "inbox", "install").ok()
	write(t, pool, "CREATE TABLE copies (message_id text, topic text, key text, payload jsonb CHECK (payload <> '2'), body bytea, headers jsonb, created_at timestamptz)")
	place, _, _ := strings.Cut(url, "?")
	write(t, pool, fmt.Sprintf("SELECT postrider.subscribe('copies', '{c.*}', '%s?table=public.copies', '{\"max_attempts\": 1}')", place))
	write(t, pool, "SELECT postrider.enqueue('c.n', n::text::jsonb) FROM generate_series(1, 3) n")
	sink, received := webhookReceiver(t, accepts)
	app := enqueuer(t, url, slices.ContainsFunc(settings, func(s setting) bool { return s.name == "transaction_timeout" }))
	for _, follow := range []string{"stream", "timer"} {
		p := start(t, append(sidecar(url, sink, "a.>"), "POSTRIDER_FOLLOW="+follow)...)
		if follow == "stream" {
			p.waitFor("following the stream")
		}
		eventually(t, "all is copied but what cannot be", func() bool {
			return textOf(t, pool, "SELECT string_agg(payload #>> '{}', ', ' ORDER BY created_at, payload) FROM copies") == "1, 3" &&
				textOf(t, pool, "SELECT string_agg(state, ', ') FROM postrider.parked WHERE subscription = 'copies' AND reason LIKE '%copies_payload_check%'") == "dead"
		})
		on(t, url, "enqueue", "a.b", `{"n":1.5}`, "--key", "k", "--header", "h=v").ok()
		if got := receive(t, received); got != `{"n": 1.5}` {
			t.Errorf("received %q", got)
		}
		app(outbox.Message{Topic: "a.c", Body: []byte("\x00\\x5c")})
		if got := receive(t, received); got != "\x00\\x5c" {
			t.Errorf("received %q", got)
		}
		on(t, url, "enqueue", "a.later", "1", "--deliver-at", "1h").ok()
		eventually(t, "it is parked", func() bool {
			return strings.Contains(on(t, url, "parked", "list", "default", "--state", "scheduled").ok().out, "a.later")
		})
		on(t, url, "status").ok("default active")
		on(t, url, "subs", "list").ok("default")
		on(t, url, "subs", "replay", "default", "--start", "2100-01-01T00:00:00Z").ok()
		doctorOn(t, url, "POSTRIDER_FOLLOW="+follow).has("ok clock", " 0 failed")
		p.signal(syscall.SIGTERM)
		if status := p.ends(); status != 0 {
			t.Errorf("%s: status %d", follow, status)
		}
	}
}

// worksInSQL has a worker of the same role do a job that fails first, in its own transactions, and one that is repaired by hand.
func worksInSQL(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	write(t, pool, "SELECT postrider.enable_notify()")
	write(t, pool, "CREATE TABLE done (topic text, attempt int)")
	write(t, pool, `SELECT postrider.subscribe('jobs', '{j.*}', 'sql:', '{"backoff_schedule": ["1ms"]}')`)
	write(t, pool, `SELECT postrider.enqueue('j.' || n, '1', key => 'k') FROM generate_series(1, 3) n`)
	var dead atomic.Bool
	w, err := worker.New(worker.SQL(pool), worker.Config{Listen: true, Routes: []worker.Route{{Subscription: "jobs", Handle: func(ctx context.Context, job *worker.Job) error {
		if _, err := job.Tx().Exec(ctx, "INSERT INTO done VALUES ($1, $2)", job.Topic, job.Attempt); err != nil {
			return err
		}
		switch {
		case job.Attempt == 1 && job.Topic == "j.1":
			return errors.New("not yet")
		case job.Topic == "j.2" && !dead.Swap(true):
			return worker.Dead(errors.New("never"))
		}
		return nil
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	all := func() string {
		return textOf(t, pool, "SELECT string_agg(topic || ' ' || attempt, ', ' ORDER BY topic) FROM done")
	}
	eventually(t, "two jobs are done", func() bool { return all() == "j.1 2, j.3 1" })
	write(t, pool, "SELECT postrider.redrive('jobs')")
	eventually(t, "all jobs are done", func() bool { return all() == "j.1 2, j.2 1, j.3 1" })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if err := pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), sql)
		return err
	}); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// textOf is what a statement yields, empty for null.
func textOf(t *testing.T, pool *pgxpool.Pool, sql string) string {
	t.Helper()
	var text *string
	if err := pool.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if text == nil {
		return ""
	}
	return *text
}

// enqueuer enqueues as an application whose session has the settings too; limits and defaults of transactions are its own to mind.
func enqueuer(t *testing.T, url string, hasTransactionTimeout bool) func(outbox.Message) {
	t.Helper()
	if hasTransactionTimeout {
		url += "&transaction_timeout=0"
	}
	conn := connectTo(t, url+"&statement_timeout=0&lock_timeout=0&idle_in_transaction_session_timeout=0&idle_session_timeout=0")
	return func(m outbox.Message) {
		t.Helper()
		if err := pgx.BeginTxFunc(context.Background(), conn, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
			_, err := outbox.Enqueue(t.Context(), tx, m)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
