package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
	"github.com/postrider/postrider/relay/states"
)

// fixtures are what databases of released schemas may hold.
const fixtures = "../../migrations/testdata/fixtures"

// passing are tables that hold only what relays tell each other while they run.
var passing = []string{"relays", "events_told", "retention_holders"}

// unlike lists the deliveries that are not as the fixture says, in the column that is asked.
func unlike(t *testing.T, conn *pgx.Conn, column string) (list string) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(format('%s/%s: %s, not %s', e.subscription, e.id, coalesce(d.status, 'nothing'), e.`+column+`), E'\n' ORDER BY 1), '')
		FROM (SELECT * FROM expected) e LEFT JOIN postrider.deliveries d USING (subscription, id) WHERE d.status IS DISTINCT FROM e.`+column).Scan(&list)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// complete says whether the fixture has each state and a row in each table.
func complete(t *testing.T, db *pgtest.DB) {
	t.Helper()
	for _, s := range states.All() {
		if n := oneText(t, db, "SELECT count(*)::text FROM postrider.parked WHERE state = '"+s.Name+"'"); n == "0" {
			t.Errorf("no delivery is %s", s.Name)
		}
	}
	rows, err := db.Conn(t).Query(t.Context(), "SELECT relname::text FROM pg_class WHERE relnamespace = 'postrider'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 20 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		if n := oneText(t, db, "SELECT count(*)::text FROM postrider."+table); n == "0" && !slices.Contains(passing, table) {
			t.Errorf("no row is in %s", table)
		}
	}
}

// What databases of released schemas hold goes on after an upgrade: each state, each table, each kind of subscription.
func TestReleasedDataGoesOn(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(fixtures + "/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		version := strings.TrimLeft(strings.TrimSuffix(filepath.Base(file), ".sql"), "0")
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var runs atomic.Int64
			receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.Header.Get("postrider-topic") == "web.minute" {
					runs.Add(1)
				}
			}))
			t.Cleanup(receiver.Close)
			db := pgtest.Empty(t)
			on(t, db.URL(), "migrate", "--to", version).ok()
			// One statement after another, as psql does: what they do is visible to the next one.
			for statement := range statements(string(text)) {
				db.Exec(t, strings.ReplaceAll(statement, "@SINK@", receiver.URL))
			}
			complete(t, db)
			conn := db.Conn(t)
			if wrong := unlike(t, conn, "status"); wrong != "" {
				t.Fatalf("the fixture is not what it says:\n%s", wrong)
			}
			on(t, db.URL(), "migrate").ok()
			if wrong := unlike(t, conn, "status"); wrong != "" {
				t.Fatalf("after the upgrade:\n%s", wrong)
			}
			db.Exec(t, "UPDATE postrider.schedules SET planned_from = now() - interval '2 minutes', next_run = date_trunc('minute', now()), due = date_trunc('minute', now()) WHERE name = 'missed'")
			goOn(t, db)
			eventually(t, "a run of the schedule", func() bool { return runs.Load() > 0 })
		})
	}
}

// goOn has a relay, a worker over HTTP and one in SQL do what there is to do, until everything has become what the fixture says.
func goOn(t *testing.T, db *pgtest.DB) {
	t.Helper()
	_, api := apiSidecar(t, db)
	w := newJobWorker(t, api.base, "worker")
	conn := db.Conn(t)
	var wrong string
	t.Cleanup(func() {
		if wrong != "" {
			t.Log(wrong)
		}
	})
	eventually(t, "all has become what the fixture says", func() bool {
		for _, j := range w.call("take", map[string]any{"from": []any{map[string]any{"subscription": "pulls", "max": 10}}, "wait": "0s"}).Jobs {
			w.call("settle", map[string]any{"items": []any{j.is("done")}})
		}
		if _, err := conn.Exec(t.Context(), "SELECT FROM postrider.take('sqls', 10)"); err != nil {
			t.Fatal(err)
		}
		wrong = unlike(t, conn, "becomes")
		return wrong == ""
	})
}

// statements are those of a file, each of which ends where a line does. A procedure's body is within $$.
func statements(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		var statement strings.Builder
		for line := range strings.Lines(text) {
			statement.WriteString(line)
			so := statement.String()
			if strings.HasSuffix(strings.TrimSpace(line), ";") && strings.Count(so, "$$")%2 == 0 {
				if !yield(so) {
					return
				}
				statement.Reset()
			}
		}
	}
}
