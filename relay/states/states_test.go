package states

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// parked is a subscription with a parked message in every state: its id is the state's place in the table, from 1.
func parked(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := pgtest.New(t).Conn(t)
	exec(t, conn, `SELECT postrider.subscribe('s', '{a}', 'stdout:', start => 'earliest')`)
	for i, s := range All() {
		exec(t, conn, `INSERT INTO postrider.parked (subscription, id, created_at, state, topic, payload, token, lease, due)
			VALUES ('s', $1, now(), $2, 'a', '1', 5, '1 hour', now() + interval '1 hour')`, i+1, s.Name)
	}
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func one[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// What the schema says of states is what the table says.
func TestStatesAreAsTheTableSays(t *testing.T) {
	conn := parked(t)
	for i, s := range All() {
		if got := one[string](t, conn, `SELECT status FROM postrider.deliveries WHERE id = $1`, i+1); got != s.status {
			t.Errorf("deliveries shows %s as %s, want %s", s.Name, got, s.status)
		}
	}
	columns := map[string]int{}
	for _, s := range All() {
		columns[s.status]++
	}
	for column, want := range columns {
		if column == "delivered" {
			continue
		}
		if n := one[int](t, conn, fmt.Sprintf(`SELECT %s FROM postrider.subscription_status`, column)); n != want {
			t.Errorf("subscription_status counts %d as %s, want %d", n, column, want)
		}
	}
}

// The constraint knows these states, all of them and no other.
func TestConstraintKnowsTheStates(t *testing.T) {
	definition := one[string](t, parked(t), `SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'postrider.parked'::regclass AND conname = 'state_is_known'`)
	var known []string
	for _, found := range regexp.MustCompile(`'(\w+)'`).FindAllStringSubmatch(definition, -1) {
		known = append(known, found[1])
	}
	slices.Sort(known)
	if want := slices.Sorted(slices.Values(Names(nil))); !slices.Equal(known, want) {
		t.Errorf("the constraint knows %q, the table has %q", known, want)
	}
}

// Indexes are for the states whose rows are looked for.
func TestIndexesAreForTheirStates(t *testing.T) {
	conn := parked(t)
	for index, is := range map[string]func(State) bool{
		"parked_due":         func(s State) bool { return s.Due == DueTry },
		"parked_called_back": State.CalledBack,
		"parked_leases":      func(s State) bool { return s.owner == receiver },
		"parked_over":        func(s State) bool { return s.Over },
	} {
		predicate := one[string](t, conn, `SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = ('postrider.' || $1)::regclass`, index)
		for _, s := range All() {
			if strings.Contains(predicate, "'"+s.Name+"'") != is(s) {
				t.Errorf("index %s is for %s: %t, want %t (%s)", index, s.Name, !is(s), is(s), predicate)
			}
		}
	}
}

// Commands change those that the table says.
func TestCommandsChangeTheirStates(t *testing.T) {
	for _, c := range []struct {
		command, becomes string
		is               func(State) bool
	}{
		{"redrive", Retrying, func(s State) bool { return s.Redrive }},
		{"discard", Discarded, func(s State) bool { return s.Discard }},
	} {
		conn := parked(t)
		for i, s := range All() {
			n := one[int](t, conn, `SELECT postrider.`+c.command+`('s', ARRAY[$1::bigint])`, i+1)
			if (n == 1) != c.is(s) {
				t.Errorf("%s changes %d messages that are %s, want it to: %t", c.command, n, s.Name, c.is(s))
			}
			if is := one[string](t, conn, `SELECT state FROM postrider.parked WHERE id = $1`, i+1); n == 1 && is != c.becomes {
				t.Errorf("%s makes a %s message %s, want %s", c.command, s.Name, is, c.becomes)
			}
		}
	}
}

// Callbacks are for those that are their receiver's.
func TestCallbacksChangeTheirStates(t *testing.T) {
	for _, sql := range []string{`SELECT postrider.complete('s', $1, 5)`, `SELECT postrider.fail('s', $1, 5)`, `SELECT postrider.heartbeat('s', $1, 5) IS NOT NULL`} {
		conn := parked(t)
		for i, s := range All() {
			if got, want := one[bool](t, conn, sql, i+1), s.owner == receiver; got != want {
				t.Errorf("%s where it is %s: %t, want %t", sql, s.Name, got, want)
			}
		}
	}
}

// The documentation shows the table.
func TestDocumentationShowsTheTable(t *testing.T) {
	const path, from, to = "../../docs/operations.md", "<!-- states: made of relay/states, go test ./relay/states -->\n", "<!-- end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), from)
	is, _, ends := strings.Cut(rest, to)
	if !ok || !ends {
		t.Fatalf("%s has no place for the table of states", path)
	}
	if is != markdown() {
		t.Errorf("%s does not show the table as it is, which is:\n%s", path, markdown())
	}
}
