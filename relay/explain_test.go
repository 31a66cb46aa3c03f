package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/store"
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
func explain(t *testing.T, conn *pgx.Conn, s store.Statement, args [][]byte) planNode {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), store.ByIndex.SQL); err != nil {
		t.Fatal(err)
	}
	values := make([]string, len(args))
	for i, a := range args {
		values[i] = "'" + strings.ReplaceAll(string(a), "'", "''") + "'"
	}
	var plan []byte
	sql := fmt.Sprintf("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE %s", s.Name)
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

// fillSegments inserts rows into some segments, in ascending order of id: as a superuser, the only one who may choose them.
func (b *bench) fillSegments(rows int, segments ...int) {
	b.t.Helper()
	b.exec(`INSERT INTO postrider.outbox (segment, topic, payload)
		SELECT ($1::int[])[1 + n * $2::int / $3::int], 'a.b', '{}' FROM generate_series(0, $3::int - 1) n`, segments, len(segments), rows)
}

// outboxReader is a session that answers a feed's questions.
func (b *bench) outboxReader() *store.OutboxReader {
	b.t.Helper()
	const incarnation = "5f0c1d6e-0000-4000-8000-000000000001"
	b.exec("INSERT INTO postrider.relays (schema, incarnation, name, version) VALUES (99, '" + incarnation + "', 'test', 'test') ON CONFLICT DO NOTHING")
	conn, err := pgx.Connect(b.t.Context(), b.db.RoleURL(b.role))
	if err != nil {
		b.t.Fatal(err)
	}
	o := &store.OutboxReader{Session: store.NewSession(conn), Incarnation: incarnation, Decoder: message.NewDecoder("source")}
	b.t.Cleanup(o.Session.Close)
	return o
}

// onePool is the relay's pool with a single connection.
func (b *bench) onePool() *dbconn.Pool {
	b.t.Helper()
	config, err := dbconn.ParseConfig(b.db.RoleURL(b.role))
	if err != nil {
		b.t.Fatal(err)
	}
	config.MaxConns = 1
	pool, err := dbconn.NewPool(b.t.Context(), config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(pool.Close)
	return pool
}

// The plans are those of a relay that has run since the table was empty, as well as those made when it is full.
func TestWindowsAndPagesUseIndexes(t *testing.T) {
	t.Parallel()
	const settled, fresh = 15_000, 30
	b := newBench(t)
	old, err := b.app.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Rollback(context.WithoutCancel(t.Context()))
	if _, err := old.Exec(t.Context(), "SELECT postrider.enqueue('a.old', '1')"); err != nil {
		t.Fatal(err)
	}
	admin := b.db.Conn(t)
	outbox, pool := b.outboxReader(), b.onePool()
	reader := b.passReader(pool, snapshotOf(t, admin))
	use := func() {
		t.Helper()
		now := snapshotOf(t, admin)
		_, _, err := outbox.Look(t.Context())
		mend(t, err)
		none := func(*message.Row) error { return nil }
		_, _, err = outbox.ReadWindow(t.Context(), now, false, none)
		mend(t, err)
		_, _, err = outbox.CountWindow(t.Context(), now, make(map[uint64]int))
		mend(t, err)
		_, err = outbox.WindowTopics(t.Context(), now, now)
		mend(t, err)
		mend(t, outbox.ReadTransactions(t.Context(), []uint64{1}, false, none))
		_, err = outbox.TransactionTopics(t.Context(), []uint64{1})
		mend(t, err)
		for _, reader.Exclude = range []bool{false, true} {
			_, err := reader.ReadPage(t.Context(), store.Page{Begun: true, Start: 1}, 1)
			mend(t, err)
			for _, reader.Lowest = range []bool{false, true} {
				_, err = reader.ReadPage(t.Context(), store.Page{}, 1)
				mend(t, err)
			}
			reader.Size.Scan = 20
			_, err = reader.ReadPage(t.Context(), store.Page{Start: 1}, 1)
			mend(t, err)
			reader.Size.Scan = 0
		}
	}
	for _, how := range []string{"plans of an empty table", "plans of a full table", "plans of an analyzed table"} {
		switch how {
		case "plans of a full table":
			outbox, pool = b.outboxReader(), b.onePool()
			reader.DB.Pool = pool
		case "plans of an analyzed table":
			b.exec("ANALYZE postrider.outbox")
		}
		use()
		b.fillSegments(settled, 3, 4, 5, 6)
		base := snapshotOf(t, admin)
		b.fillSegments(fresh, 6, 7)
		target := snapshotOf(t, admin)
		lowest := scalar[int64](b, "SELECT max(id) FROM postrider.outbox") - fresh

		window := store.WindowArgs(base)
		page := [][]byte{fmt.Append(nil, lowest), []byte(base.String()), []byte(target.String()), []byte("^(a.b)$"), []byte("2000"), []byte("9223372036854775807"), []byte("nobody")}
		xids := [][]byte{fmt.Appendf(nil, "{%d}", target.Xmax-1)}
		for _, c := range []struct {
			store.Statement
			args    [][]byte
			maySort bool
		}{
			{store.WindowStatement.Whole, window, true},
			{store.CountStatement, window, true},
			{store.WindowTopics, append(window, []byte(target.String())), true},
			{store.TransactionRows.Whole, xids, true},
			{store.PassStart, window, false},
			{store.PassEnd, [][]byte{fmt.Append(nil, lowest), []byte("20")}, false},
			{store.PassLowest, nil, false},
			{store.PassPages[0].Whole, page[:6], false},
			{store.PassPages[1].Whole, page, false},
		} {
			conn := outbox.Session.Conn
			if strings.Contains(c.Name, "page") || strings.Contains(c.Name, "pass") {
				held, err := pool.Acquire(t.Context())
				mend(t, err)
				conn = held.Conn()
				checkPlan(t, how+": "+c.Name, explain(t, conn, c.Statement, c.args), 3*fresh, c.maySort)
				held.Release()
				continue
			}
			checkPlan(t, how+": "+c.Name, explain(t, conn, c.Statement, c.args), 3*fresh, c.maySort)
		}
	}
}

func mend(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
