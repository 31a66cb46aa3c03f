package dbconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/pgtest"
)

// odd are values that no pin has.
var odd = map[string]string{
	"search_path": "public, pg_catalog", "row_security": "on", "restrict_nonsystem_relation_kind": "view",
	"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kolkata", "timezone_abbreviations": "India",
	"extra_float_digits": "-15", "bytea_output": "escape", "xmlbinary": "hex", "xmloption": "document", "quote_all_identifiers": "on",
	"standard_conforming_strings": "off", "backslash_quote": "off", "escape_string_warning": "off", "array_nulls": "off",
	"transform_null_equals": "on", "plpgsql.extra_errors": "all", "plpgsql.extra_warnings": "all", "check_function_bodies": "off",
	"default_transaction_isolation": "serializable", "default_transaction_read_only": "on", "default_transaction_deferrable": "on",
	"default_tablespace": "pg_default", "temp_tablespaces": "pg_default", "default_table_access_method": "odd",
	"statement_timeout": "10min", "lock_timeout": "10min", "transaction_timeout": "10min", "idle_in_transaction_session_timeout": "10min",
	"idle_session_timeout": "10min", "exit_on_error": "on", "client_min_messages": "error", "jit": "on",
	"plan_cache_mode": "force_custom_plan", "force_parallel_mode": "on", "debug_parallel_query": "on",
}

// oddRole is a role for which every pinned setting that the server knows is another.
func oddRole(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	role := db.Role(t, "odd", "REPLICATION")
	db.Exec(t, "CREATE ACCESS METHOD odd TYPE TABLE HANDLER heap_tableam_handler")
	admin := db.Conn(t)
	for _, pin := range pins {
		value, ok := odd[pin[0]]
		if !ok {
			if value = "off"; !strings.HasPrefix(pin[0], "enable_") {
				t.Fatalf("there is no odd value for %s", pin[0])
			}
		}
		var known bool
		if err := admin.QueryRow(t.Context(), "SELECT current_setting($1, true) IS NOT NULL OR $1 LIKE 'plpgsql.%'", pin[0]).Scan(&known); err != nil {
			t.Fatal(err)
		}
		if !known {
			continue
		}
		list := "'" + value + "'"
		if pin[0] == "search_path" {
			list = value
		}
		db.Exec(t, fmt.Sprintf("ALTER ROLE %s SET %s = %s", pgx.Identifier{role}.Sanitize(), pin[0], list))
	}
	return role
}

// unpinned lists the pins that do not hold.
const unpinned = `SELECT coalesce(string_agg(s.name || ' = ' || current_setting(s.name), ', '), '')
	FROM unnest($1::text[], $2::text[]) AS s (name, value) WHERE current_setting(s.name, true) <> s.value`

func pinColumns() (names, values []string) {
	for _, pin := range pins {
		names, values = append(names, pin[0]), append(values, pin[1])
	}
	return names, values
}

// db is a connection or a pool.
type db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func checkPins(t *testing.T, where string, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) {
	t.Helper()
	names, values := pinColumns()
	var wrong string
	if err := q.QueryRow(t.Context(), unpinned, names, values).Scan(&wrong); err != nil || wrong != "" {
		t.Errorf("%s: not pinned: %s (%v)", where, wrong, err)
	}
}

// checkTransaction wants what the session's defaults are not.
func checkTransaction(t *testing.T, where string, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) {
	t.Helper()
	var got string
	err := q.QueryRow(t.Context(), `SELECT concat_ws(' ', current_setting('transaction_isolation'), current_setting('transaction_read_only'),
		current_setting('transaction_deferrable'))`).Scan(&got)
	if err != nil || got != "read committed off off" {
		t.Errorf("%s: the transaction is %q (%v)", where, got, err)
	}
}

// checkAll uses a connection or pool in every way.
func checkAll(t *testing.T, d db) {
	t.Helper()
	ctx := t.Context()
	checkPins(t, "query of one row", d)
	checkTransaction(t, "query of one row", d)
	tx, err := d.BeginTx(ctx, pgx.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkPins(t, "transaction", tx)
	checkTransaction(t, "transaction", tx)
	if err := tx.Rollback(ctx); err != nil {
		t.Error(err)
	}
	names, values := pinColumns()
	for _, begin := range []bool{true, false} {
		b := &pgx.Batch{}
		if begin {
			b.Queue(Begin)
		}
		b.Queue(unpinned, names, values).QueryRow(func(row pgx.Row) error {
			var wrong string
			if err := row.Scan(&wrong); err != nil || wrong != "" {
				t.Errorf("batch: not pinned: %s (%v)", wrong, err)
			}
			return nil
		})
		if begin {
			b.Queue("COMMIT")
		}
		if err := d.SendBatch(ctx, b).Close(); err != nil {
			t.Error(err)
		}
	}
	// An error leaves the connection usable, and a row is written although transactions are read-only by default.
	if _, err := d.Exec(ctx, "SELECT 1 / $1::int", 0); !isCode(err, "22012") {
		t.Errorf("division by zero: %v", err)
	}
	if tag, err := d.Exec(ctx, "INSERT INTO public.t SELECT generate_series(1, $1::int)", 3); err != nil || tag.RowsAffected() != 3 {
		t.Errorf("insert: %s, %v", tag, err)
	}
	rows, err := d.Query(ctx, "DELETE FROM public.t RETURNING n")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pgx.CollectRows(rows, pgx.RowTo[int]); err != nil || !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("delete returned %v, %v", got, err)
	}
	if err := d.QueryRow(ctx, "SELECT n FROM public.t").Scan(new(int)); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("no row: %v", err)
	}
	if err := d.QueryRow(ctx, "SELECT 1 FROM public.none").Scan(new(int)); !isCode(err, "42P01") {
		t.Errorf("no table: %v", err)
	}
}

func isCode(err error, code string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == code
}

// Whatever role, database or connection string set, and also where a pooler gives out another session for each transaction, every
// statement runs with the values that the product depends on.
func TestEveryConnectionIsPinned(t *testing.T) {
	server := pgtest.New(t)
	role := oddRole(t, server)
	server.Exec(t, fmt.Sprintf(`CREATE TABLE public.t (n int); GRANT ALL ON public.t TO %q`, role))
	bouncer, err := pgtest.StartBouncer(t.Context(), server.Server, pgtest.BouncerOptions{User: role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bouncer.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, url := range map[string]string{
		"direct": server.RoleURL(role),
		"url":    server.RoleURL(role) + "&datestyle=German&timezone=Asia/Tokyo&CLIENT_ENCODING=LATIN1&statement_timeout=1s&options=-c%20search_path%3Dpublic",
		"pooler": bouncer.URL(server.Name),
	} {
		t.Run(name, func(t *testing.T) {
			config, err := ParseConfig(url)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := Connect(t.Context(), config.ConnConfig)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if conn.Pooled() != (name == "pooler") || conn.Encoding() != "UTF8" {
				t.Errorf("pooled %t, encoding %s", conn.Pooled(), conn.Encoding())
			}
			checkAll(t, conn)
			pool, err := NewPool(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			checkAll(t, pool)
		})
	}
	// What is pinned does not reach the other clients of a pooler.
	conn, err := pgx.Connect(t.Context(), bouncer.URL(server.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var path string
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('search_path')").Scan(&path); err != nil || path != "public, pg_catalog" {
		t.Errorf("another client's search_path is %q (%v)", path, err)
	}
}

// The server knows nothing of pgx's own parameters, and a walsender is pinned as well.
func TestReplicationConnection(t *testing.T) {
	server := pgtest.New(t)
	role := oddRole(t, server)
	url := server.RoleURL(role) + "&statement_cache_capacity=0&description_cache_capacity=0&default_query_exec_mode=exec&pool_max_conns=3&pool_min_conns=0" +
		"&pool_min_idle_conns=0&pool_max_conn_lifetime=1h&pool_max_conn_idle_time=1h&pool_health_check_period=1m&pool_max_conn_lifetime_jitter=1m&pool_ping_timeout=1s"
	conn, err := Replication(t.Context(), url, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, pin := range pins {
		row, err := ask(t.Context(), conn, "SELECT current_setting('"+pin[0]+"', true)")
		if err != nil {
			t.Fatal(err)
		}
		if row[0] != nil && string(row[0]) != pin[1] {
			t.Errorf("%s is %q, want %q", pin[0], row[0], pin[1])
		}
	}
	if _, err := conn.Exec(t.Context(), `CREATE_REPLICATION_SLOT dbconn_test TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT`).ReadAll(); err != nil {
		t.Error(err)
	}
}

// With session_replication_role = replica the schema's triggers and foreign keys are not there.
func TestReplicaRole(t *testing.T) {
	server := pgtest.New(t)
	for attrs, works := range map[string]bool{"SUPERUSER": true, "": false} {
		role := server.Role(t, "replica", attrs)
		server.Exec(t, fmt.Sprintf("ALTER ROLE %q SET session_replication_role = replica", role))
		config, err := ParseConfig(server.RoleURL(role))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := Connect(t.Context(), config.ConnConfig)
		if works != (err == nil) || !works && !strings.Contains(err.Error(), "RESET session_replication_role") {
			t.Errorf("%q: %v", attrs, err)
		}
		if conn == nil {
			continue
		}
		var value string
		if err := conn.QueryRow(t.Context(), "SHOW session_replication_role").Scan(&value); err != nil || value != "origin" {
			t.Errorf("session_replication_role is %q (%v)", value, err)
		}
		conn.Close(t.Context())
	}
}

func TestStorable(t *testing.T) {
	for _, c := range []struct{ encoding, text, want string }{
		{"UTF8", "grün ✓ 😀", "grün ✓ 😀"},
		{"", "a\x00b\xffc", "a�b�c"},
		{"SQL_ASCII", "grün\xff\x00", "grün��"},
		{"LATIN1", "grün ✓ 😀\x00\xff\u0085", `grün \u2713 \U0001f600??\u0085`},
		{"EUC_JP", "grün", `gr\u00fcn`},
		{"WIN1252", "plain", "plain"},
	} {
		if got := Encoding(c.encoding).Storable(c.text); got != c.want {
			t.Errorf("%s: %q became %q, want %q", c.encoding, c.text, got, c.want)
		}
	}
}
