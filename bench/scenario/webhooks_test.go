package scenario

import (
	"testing"

	"github.com/postrider/postrider/bench/report"
)

// Each figure is a median by itself, and a share is the median of the rounds' shares; a round with trouble does not count.
func TestMedians(t *testing.T) {
	row := func(rate, relay, receiver float64) report.Row {
		return report.Row{Rate: rate, RelayCPU: relay, DestinationCPU: receiver}
	}
	rows := medians([][]report.Row{
		{row(100, 1, 5), row(50, 2, 2)},
		{row(300, 3, 1), row(100, 4, 4)},
		{row(200, 2, 3), row(400, 3, 3)},
		{{Error: "trouble"}, row(1, 1, 1)},
	})
	a := rows[0]
	if a.Rate != 200 || a.RelayCPU != 2 || a.DestinationCPU != 3 {
		t.Errorf("the medians are %+v", a)
	}
	want := map[string]float64{"rate of bare": 200, "relay CPU of bare": 100 * 2. / 3, "receiver CPU of bare": 100}
	for _, f := range a.Extra {
		if d := f.Value - want[f.Name]; d > 1e-9 || d < -1e-9 {
			t.Errorf("%s is %v, want %v", f.Name, f.Value, want[f.Name])
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("without %v", want)
	}
}
