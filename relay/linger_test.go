package relay

import (
	"testing"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/queue"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

func TestLinger(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ago := func(d time.Duration) *task { return &task{row: &message.Row{}, since: now.Add(-d)} }
	parked := &task{row: &message.Row{}}
	const second = time.Second
	for name, c := range map[string]struct {
		linger      time.Duration
		queue, free []*task
		full        bool
		want        bool
		look        time.Duration
	}{
		"off":                      {0, []*task{ago(0)}, nil, false, false, 0},
		"young":                    {second, []*task{ago(second / 4), ago(0)}, nil, false, true, 3 * second / 4},
		"old":                      {second, []*task{ago(second), ago(0)}, nil, false, false, 0},
		"young without a key":      {second, nil, []*task{ago(second / 2)}, false, true, second / 2},
		"the older of both counts": {second, []*task{ago(second / 4)}, []*task{ago(second / 2)}, false, true, second / 2},
		"old without a key":        {second, []*task{ago(0)}, []*task{ago(2 * second)}, false, false, 0},
		"a full batch":             {second, []*task{ago(0), ago(0)}, []*task{ago(0)}, false, false, 0},
		"parked":                   {second, []*task{parked, ago(0)}, nil, false, false, 0},
		"no room for more":         {second, []*task{ago(0)}, nil, true, false, 0},
	} {
		r := newRunner(environment{budget: &queue.Budget{Limit: 1 << 26}}, nil, sinks.Limits{Lanes: 2, Batch: 3})
		r.lanes.free = c.free
		r.env.sub.Settings = subscription.Settings{Linger: subscription.Duration(c.linger), MaxParked: 10, MaxScheduled: 10}
		r.lanes.all[0].queue = c.queue
		if c.full {
			r.lanes.tasks = r.maxTasks()
		}
		if got := r.linger(r.lanes.all[0], now); got != c.want {
			t.Errorf("%s: waits %t, want %t", name, got, c.want)
		}
		if c.want != (r.lanes.lingers == now.Add(c.look)) || !c.want && !r.lanes.lingers.IsZero() {
			t.Errorf("%s: looks again in %s, want %s", name, r.lanes.lingers.Sub(now), c.look)
		}
	}
}

// Messages of several transactions go in one batch, a full batch goes at once, and a stop waits for nothing.
func TestLingerGathersABatch(t *testing.T) {
	s := newScene(t)
	a := s.cast("sub", "{>}", `{"linger": "700ms", "lanes": 2}`)
	a.limits = sinks.Limits{Lanes: 2, Batch: 8}
	s.play()
	start := time.Now()
	var ids []int64
	for range 3 {
		ids = append(ids, s.publish("x", "", `1`)...)
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
	late := s.publish("x", "", `1`)
	eventually(t, "the late one waits in its lane", func() bool {
		run := r.now.Load().running()["sub"]
		run.mu.Lock()
		defer run.mu.Unlock()
		return run.lanes.tasks == 1 && !run.lanes.lingers.IsZero()
	})
	r.stop()
	a.exactly(t, ids)
	s.exec(`UPDATE postrider.subscriptions SET settings = '{}' WHERE name = 'sub'`)
	s.play()
	a.got(t, late)
	a.exactly(t, append(ids, late...))
}
