package scenario

import (
	"testing"
	"time"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/bench/report"
)

// A message a second is committed for ten seconds. Each arrives after 100 ms, from the sixth on after 300 ms; the last does not arrive.
func steady() *pressed {
	began := time.Unix(1_000_000, 0)
	r := &pressed{began: began, made: load.Produced{Messages: 10, Time: 10 * time.Second}, commits: make([]int64, 12), arrivals: make([]int64, 11)}
	for n := 1; n <= 10; n++ {
		at := began.Add(time.Duration(n)*time.Second - 500*time.Millisecond)
		r.commits[n] = at.UnixNano()
		late := 100 * time.Millisecond
		if n > 5 {
			late = 300 * time.Millisecond
		}
		if n < 10 {
			r.arrivals[n] = at.Add(late).UnixNano()
		}
	}
	return r
}

func figure(t *testing.T, row report.Row, name string) float64 {
	t.Helper()
	for _, f := range row.Extra {
		if f.Name == name {
			return f.Value
		}
	}
	t.Fatalf("there is no figure %q in %v", name, row.Extra)
	return 0
}

func TestPressureCountsWhatIsBehind(t *testing.T) {
	r := steady()
	row := r.row()
	if row.Rate != 0.9 || row.Latency.Count != 9 {
		t.Errorf("rate %v, %d latencies", row.Rate, row.Latency.Count)
	}
	for name, want := range map[string]float64{"lag at most": 0.5, "undelivered at the end": 1, "not arrived": 1} {
		if got := figure(t, row, name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := r.lag(r.began.Add(9 * time.Second)); got != 300*time.Millisecond {
		t.Errorf("lag of the first nine seconds: %v", got)
	}
}

func TestPressureComparesBeginningAndEnd(t *testing.T) {
	var row report.Row
	steady().compare(&row, 4*time.Second)
	for name, want := range map[string]float64{"first delivered": 1, "last delivered": 0.75, "first produced": 1, "last produced": 1} {
		if got := figure(t, row, name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if first, last := figure(t, row, "first p99"), figure(t, row, "last p99"); first > 110 || last < 290 {
		t.Errorf("p99 %v and %v", first, last)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.values, got, c.want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{5: "5", 200_000: "200,000", 1_234: "1,234", 5_000_000: "5 million", 1_500_000: "1,500,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// Parts are added to a copy as the table has them.
func TestCopyHasTheParts(t *testing.T) {
	a := anatomy{key: "LIST (segment)", indexes: []string{"USING btree (xid)"},
		checks: []constraint{{"c1", "CHECK ((id > 0))"}}, leaves: []leaf{{"FOR VALUES IN (0)", "autovacuum_enabled=false"}, {"FOR VALUES IN (1)", ""}},
		generated: []string{"xid"}}
	whole := a.copySQL("v.t", parts{defaults: true, index: true, ring: true, checks: a.checks})
	want := `CREATE TABLE v.t (LIKE postrider.outbox INCLUDING DEFAULTS) PARTITION BY LIST (segment);
CREATE INDEX ON v.t USING btree (xid);
ALTER TABLE v.t ADD CONSTRAINT c1 CHECK ((id > 0));
CREATE TABLE v.t_0 PARTITION OF v.t FOR VALUES IN (0) WITH (autovacuum_enabled=false);
ALTER TABLE v.t_0 ADD PRIMARY KEY (id);
CREATE TABLE v.t_1 PARTITION OF v.t FOR VALUES IN (1) ;
ALTER TABLE v.t_1 ADD PRIMARY KEY (id);
`
	if whole != want {
		t.Errorf("got\n%s\nwant\n%s", whole, want)
	}
	bare := a.copySQL("v.t", parts{})
	want = `CREATE TABLE v.t (LIKE postrider.outbox) ;
CREATE SEQUENCE v.t_id;
ALTER TABLE v.t ALTER id SET DEFAULT nextval('v.t_id');
ALTER TABLE v.t ALTER xid DROP NOT NULL;
ALTER TABLE v.t ADD PRIMARY KEY (id);
`
	if bare != want {
		t.Errorf("got\n%s\nwant\n%s", bare, want)
	}
}
