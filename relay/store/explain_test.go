package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// planNode is a node of EXPLAIN (ANALYZE, FORMAT JSON).
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Index    string     `json:"Index Name"`
	Rows     float64    `json:"Actual Rows"`
	Loops    float64    `json:"Actual Loops"`
	Removed  float64    `json:"Rows Removed by Filter"`
	Plans    []planNode `json:"Plans"`
}

func (n planNode) walk(visit func(planNode)) {
	visit(n)
	for _, child := range n.Plans {
		child.walk(visit)
	}
}

// explain shows how a statement that the engine has prepared on the connection is carried out: by the plan that was made
// when the engine ran it first.
func explain(t *testing.T, conn *pgx.Conn, s statement, args [][]byte) planNode {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), byIndex.sql); err != nil {
		t.Fatal(err)
	}
	values := make([]string, len(args))
	for i, a := range args {
		values[i] = "'" + strings.ReplaceAll(string(a), "'", "''") + "'"
	}
	var plan []byte
	sql := fmt.Sprintf("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE %s", s.name)
	if len(values) > 0 {
		sql += " (" + strings.Join(values, ", ") + ")"
	}
	if err := tx.QueryRow(t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&plan); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var explained []struct{ Plan planNode }
	if err := json.Unmarshal(plan, &explained); err != nil || len(explained) != 1 {
		t.Fatalf("plan %s: %v", plan, err)
	}
	return explained[0].Plan
}

// checkPlan wants indexes, in a plan that touches and sorts few rows.
func checkPlan(t *testing.T, name string, plan planNode, most float64, maySort bool) {
	t.Helper()
	touched, bad := 0.0, 0
	plan.walk(func(n planNode) {
		outbox := strings.HasPrefix(n.Relation, "outbox")
		if outbox {
			touched += (n.Rows + n.Removed) * n.Loops
		}
		switch {
		case outbox && n.Type == "Seq Scan":
			bad++
			t.Errorf("%s: %s on %s", name, n.Type, n.Relation)
		case strings.Contains(n.Type, "Sort") && (!maySort || n.Rows > most):
			bad++
			t.Errorf("%s: %s of %v rows", name, n.Type, n.Rows)
		}
	})
	if touched > most {
		bad++
		t.Errorf("%s: %v rows of the outbox were touched, want at most %v", name, touched, most)
	}
	if bad > 0 {
		text, _ := json.MarshalIndent(plan, "", " ")
		t.Logf("%s", text)
	}
}

// The plans are those of a relay that has run since the table was empty, as well as those made when it is full.
func TestWindowsAndPagesUseIndexes(t *testing.T) {
	t.Parallel()
	const settled, fresh = 15_000, 30
	b := newBench(t)
	old, err := b.App.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Rollback(context.WithoutCancel(t.Context()))
	if _, err := old.Exec(t.Context(), "SELECT postrider.enqueue('a.old', '1')"); err != nil {
		t.Fatal(err)
	}
	admin := b.DB.Conn(t)
	outbox, pool := b.outboxReader(), b.OnePool()
	reader := b.pass(pool, snapshotOf(t, admin), ">")
	use := func() {
		t.Helper()
		now := snapshotOf(t, admin)
		_, _, err := outbox.Tick(t.Context())
		mend(t, err)
		none := func(*message.Row) error { return nil }
		_, _, err = outbox.ReadWindow(t.Context(), now, false, none)
		mend(t, err)
		_, _, err = outbox.ReadWindow(t.Context(), snapshot.Snapshot{Xmax: now.Xmax}, false, none) // in one scan
		mend(t, err)
		_, _, err = outbox.CountWindow(t.Context(), now, make(map[uint64]int))
		mend(t, err)
		_, err = outbox.WindowTopics(t.Context(), now, now)
		mend(t, err)
		mend(t, outbox.ReadTransactions(t.Context(), []uint64{1}, false, none))
		_, err = outbox.TransactionTopics(t.Context(), []uint64{1})
		mend(t, err)
		for _, reader.Exclude = range []bool{false, true} {
			_, err := reader.page(t.Context(), Page{Begun: true, Start: 1}, 1)
			mend(t, err)
			for _, *reader.Lowest = range []bool{false, true} {
				_, err = reader.page(t.Context(), Page{}, 1)
				mend(t, err)
			}
			reader.Scan = 20
			_, err = reader.page(t.Context(), Page{Start: 1}, 1)
			mend(t, err)
			reader.Scan = 0
		}
	}
	for _, how := range []string{"plans of an empty table", "plans of a full table", "plans of an analyzed table"} {
		switch how {
		case "plans of a full table":
			outbox, pool = b.outboxReader(), b.OnePool()
			reader.Pool = pool
		case "plans of an analyzed table":
			b.Exec("ANALYZE postrider.outbox")
		}
		use()
		b.FillSegments(settled, 3, 4, 5, 6)
		base := snapshotOf(t, admin)
		b.FillSegments(fresh, 6, 7)
		target := snapshotOf(t, admin)
		lowest := scalar[int64](b, "SELECT max(id) FROM postrider.outbox") - fresh

		window := windowArgs(base)
		page := [][]byte{fmt.Append(nil, lowest), []byte(base.String()), []byte(target.String()), []byte("^(a.b)$"), []byte("2000"), []byte("9223372036854775807"), []byte("nobody")}
		xids := [][]byte{fmt.Appendf(nil, "{%d}", target.Xmax-1)}
		for _, c := range []struct {
			statement
			args    [][]byte
			maySort bool
		}{
			{windowRows.whole, window, true},
			{nearWindowRows.whole, nearWindowArgs(snapshot.Snapshot{Xmax: base.Xmax}), true},
			{countWindow, window, true},
			{windowTopics, append(window, []byte(target.String())), true},
			{transactionRows.whole, xids, true},
			{passStart, window, false},
			{passEnd, [][]byte{fmt.Append(nil, lowest), []byte("20")}, false},
			{passLowest, nil, false},
			{passPages[0].whole, page[:6], false},
			{passPages[1].whole, page, false},
		} {
			conn := outbox.Session.conn
			if strings.Contains(c.name, "page") || strings.Contains(c.name, "pass") {
				held, err := pool.Acquire(t.Context())
				mend(t, err)
				conn = held.Conn()
				checkPlan(t, how+": "+c.name, explain(t, conn, c.statement, c.args), 3*fresh, c.maySort)
				held.Release()
				continue
			}
			checkPlan(t, how+": "+c.name, explain(t, conn, c.statement, c.args), 3*fresh, c.maySort)
		}
	}
}
