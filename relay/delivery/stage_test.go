package delivery

import (
	"testing"
	"time"

	"github.com/postrider/postrider/sinks"
)

// stagedSink is a lessor that says what troubles it, and counts how often it is told to hand over.
type stagedSink struct {
	lessorOf
	relinquished *int
}

func (s stagedSink) Relinquish()                      { *s.relinquished++ }
func (s stagedSink) Trouble() (string, time.Duration) { return "no worker comes", time.Minute }

// A runner finds behind a stage what its sink can do beside delivering.
func TestSinkBehindAStage(t *testing.T) {
	x, n := new(simRunner), 0
	sink := sinks.Wrap(stagedSink{lessorOf{sinks.AsSink(x), x}, &n}, sinks.Stage{})
	r := newClassRunner(sink, 2, 1)
	if r.lanes.leasing.to == nil {
		t.Error("it does not lease")
	}
	if r.relinquish(); n != 1 {
		t.Errorf("it was told to hand over %d times, want once", n)
	}
	if text := r.troubleOfSink(time.Now()); text != "no worker comes" {
		t.Errorf("its trouble is %q", text)
	}
}
