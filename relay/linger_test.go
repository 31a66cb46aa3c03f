package relay

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// Messages of several transactions go in one batch, a full batch goes at once, and a stop waits for nothing.
func TestLingerGathersABatch(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"linger": "700ms", "lanes": 2}`)
	a.limits = sinks.Limits{Lanes: 2, Batch: 8}
	s.play()
	start := time.Now()
	var ids []int64
	for range 3 {
		ids = append(ids, s.Publish("x", "", `1`)...)
	}
	a.got(t, ids)
	if d := a.all()[0].at.Sub(start); d < 700*time.Millisecond {
		t.Errorf("the first message went after %s, want it to wait for 700ms", d)
	}
	if a.largest != 3 {
		t.Errorf("the largest batch had %d messages, want the 3", a.largest)
	}
	a.exactly(t, ids)
}

func TestFullBatchDoesNotLinger(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"linger": "10m"}`)
	a.limits = sinks.Limits{Lanes: 1, Batch: 8}
	r := s.play()
	ids := s.bulk("x", 16, 0)
	a.got(t, ids)
	late := s.Publish("x", "", `1`)
	eventually(t, "the late one waits in its lane", func() bool {
		has := r.now.Load().running()[subscription.Whole("sub")].Inside()
		return has.Tasks == 1 && has.Lingers
	})
	r.stop()
	a.exactly(t, ids)
	s.Exec(`UPDATE postrider.subscriptions SET settings = '{}' WHERE name = 'sub'`)
	s.play()
	a.got(t, late)
	a.exactly(t, append(ids, late...))
}
