package migrations

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/pgtest"
)

// planNode is a node of EXPLAIN (FORMAT JSON).
type planNode struct {
	Node  string     `json:"Node Type"`
	Table string     `json:"Relation Name"`
	Cost  float64    `json:"Total Cost"`
	Plans []planNode `json:"Plans"`
}

func (p planNode) walk(visit func(planNode)) {
	visit(p)
	for _, child := range p.Plans {
		child.walk(visit)
	}
}

func explainJSON(t *testing.T, conn *pgx.Conn, sql string) planNode {
	t.Helper()
	var text []byte
	if err := conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var explained []struct{ Plan planNode }
	if err := json.Unmarshal(text, &explained); err != nil || len(explained) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	return explained[0].Plan
}

// jitAboveCost is PostgreSQL's default: what costs more is compiled first.
const jitAboveCost = 100_000

// Whoever asks for one message gets it at once, however large the ring is and however little the planner knows of it: no walk through the
// log, and no plan so dear that it is compiled first, which takes seconds.
func TestOneDeliveryIsFoundAtOnce(t *testing.T) {
	conn := pgtest.New(t).Conn(t)
	exec(t, conn, `SET synchronous_commit = off`)
	for i := range 8 {
		subscribe(t, conn, fmt.Sprintf("s%d", i), "earliest", []string{"a.*", "b"}[i%2])
	}
	for i := range 16 {
		exec(t, conn, fmt.Sprintf(`ALTER TABLE postrider.outbox_%d SET (autovacuum_enabled = false)`, i))
		exec(t, conn, `INSERT INTO postrider.outbox (topic, payload, segment) SELECT 'a.b', '1', $1::int FROM generate_series(1, 10000)`, i)
	}
	exec(t, conn, `INSERT INTO postrider.parked (subscription, id, created_at, state, attempts, topic, payload)
		SELECT 's0', id, created_at, 'dead', 5, topic, payload FROM postrider.outbox WHERE id % 20 = 2`)
	for sql, want := range map[string]int{
		`SELECT * FROM postrider.deliveries WHERE id = 42`:                         4,
		`SELECT * FROM postrider.deliveries WHERE subscription = 's2' AND id = 42`: 1,
		`SELECT * FROM postrider.deliveries WHERE subscription = 's0' AND id = 42`: 1,
		`SELECT * FROM postrider.deliveries WHERE id = -1`:                         0,
	} {
		if n := one[int](t, conn, `SELECT count(*) FROM (`+sql+`) d`); n != want {
			t.Errorf("%s: %d rows, want %d", sql, n, want)
		}
		p := explainJSON(t, conn, sql)
		p.walk(func(n planNode) {
			if n.Node == "Seq Scan" && strings.HasPrefix(n.Table, "outbox") {
				t.Errorf("%s: walks through %s", sql, n.Table)
			}
		})
		if p.Cost > jitAboveCost/10 {
			t.Errorf("%s: the planner takes it for a cost of %.0f", sql, p.Cost)
		}
	}
}
