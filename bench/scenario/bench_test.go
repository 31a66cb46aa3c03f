package scenario

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/bench/report"
)

func TestMedianRow(t *testing.T) {
	trouble := report.Row{Error: "trouble", Rate: 99}
	for _, c := range []struct {
		rows []report.Row
		want report.Row
	}{
		{[]report.Row{{Rate: 3}, {Rate: 1}, {Rate: 2}}, report.Row{Rate: 2}},
		{[]report.Row{trouble, {Rate: 3}, {Rate: 1}}, report.Row{Rate: 1}},
		{[]report.Row{trouble, trouble, {Rate: 3}}, report.Row{Rate: 3}},
		{[]report.Row{trouble, trouble, trouble}, trouble},
	} {
		if got := medianRow(c.rows); got.Rate != c.want.Rate || got.Error != c.want.Error {
			t.Errorf("of %+v: %+v, want %+v", c.rows, got, c.want)
		}
	}
}

// TestShare compares Postrider with both pipes in each round, and neither a pipe nor a peer with anything.
func TestShare(t *testing.T) {
	row := func(system string, rates ...float64) (list []report.Row) {
		for _, rate := range rates {
			list = append(list, report.Row{System: system, Rate: rate})
		}
		return list
	}
	all := [][]report.Row{row("postrider stream", 90, 9, 30), row("bare pipe", 100, 20, 10), row("bare pipe, all attributes", 60, 0, 60), row("watermill", 5, 5, 5)}
	all[1][2].Error = "trouble"
	rows := medianRows(all)
	share(rows, all)
	if of := figure(t, rows[0], "of bare pipe"); of != 67.5 {
		t.Errorf("%v %% of the bare pipe", of)
	}
	if of := figure(t, rows[0], "of bare pipe, all attributes"); of != 100 {
		t.Errorf("%v %% of the pipe with all attributes", of)
	}
	for _, r := range rows[1:] {
		if len(r.Extra) != 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestPagesOf(t *testing.T) {
	by, err := pagesOf("# HELP postrider_replica_pages_total x\npostrider_replica_pages_total{result=\"read\"} 12\npostrider_replica_pages_total{result=\"behind\"} 1\npostrider_up 3\n")
	if err != nil || len(by) != 2 || by["read"] != 12 || by["behind"] != 1 {
		t.Errorf("%v, %v", by, err)
	}
	if _, err := pagesOf(`postrider_replica_pages_total{result="read"} many`); err == nil {
		t.Error("a count that is none is taken")
	}
}

func TestLargeSizes(t *testing.T) {
	for most, want := range map[int]string{0: "[200000 5000000 50000000]", 5_000_000: "[200000 5000000]", 7: "[7]", 60_000_000: "[200000 5000000 50000000 60000000]"} {
		if got := fmt.Sprint(largeSizes(most)); got != want {
			t.Errorf("up to %d: %s, want %s", most, got, want)
		}
	}
	if got := middle([]time.Duration{5, 1, 3}); got != 3 || middle(nil) != 0 {
		t.Errorf("the middle is %d", got)
	}
}
