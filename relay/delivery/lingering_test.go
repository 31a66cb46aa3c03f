package delivery

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
		s := subscription.Subscription{Settings: subscription.Settings{Details: subscription.Details{Linger: subscription.Duration(c.linger)}, MaxParked: 10, MaxScheduled: 10}}
		r := New(Environment{Sub: s, Budget: &queue.Budget{Limit: 1 << 26}}, &Filter{}, sinks.Limits{Lanes: 2, Batch: 3})
		r.lanes.free = waiting{byClass: [][]*task{c.free}, n: len(c.free)}
		r.lanes.all[0].queue = waiting{byClass: [][]*task{c.queue}, n: len(c.queue)}
		if c.full {
			r.intakes[0].tasks = r.maxTasks()
		}
		if got := r.linger(r.lanes.all[0], now); got != c.want {
			t.Errorf("%s: waits %t, want %t", name, got, c.want)
		}
		if c.want != (r.lanes.lingers == now.Add(c.look)) || !c.want && !r.lanes.lingers.IsZero() {
			t.Errorf("%s: looks again in %s, want %s", name, r.lanes.lingers.Sub(now), c.look)
		}
	}
}
