package scenario

import (
	"testing"

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
