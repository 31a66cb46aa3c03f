package scenario

import (
	"context"

	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/postrider"
)

func init() {
	register(95, Scenario{ // the last one: nothing else is to be left out for it
		Name: "drain-filter", Run: drainFilter,
		Title: "a backlog into JetStream, without and with expressions that look at each payload",
	})
}

// expressions are what is compared: settings of the subscription, by name.
var expressions = []struct {
	name     string
	settings map[string]any
	each     int // so manieth message is delivered
}{
	{"as they are", nil, 1},
	{"a filter that wants all", map[string]any{"filter": `payload.n > 0 && topic.startsWith("bench.")`}, 1},
	{"a filter that wants half", map[string]any{"filter": "payload.n % 2 == 0"}, 2},
	{"a filter and a transform", map[string]any{"filter": "payload.n > 0", "transform": map[string]any{"payload": `{"n": payload.n, "twice": payload.n * 2}`}}, 1},
}

// drainFilter has them take turns, for what else the machine does to concern all alike.
func drainFilter(ctx context.Context, b *Bench) (t report.Table, err error) {
	const messages = 200_000
	if len(b.relays(nil, "stream")) == 0 {
		return t, nil
	}
	all := make([][]report.Row, len(expressions))
	for range rounds {
		for i, e := range expressions {
			with := func(to system.Destination) []postrider.Subscription {
				list := postrider.Default(to)
				list[0].Settings = e.settings
				return list
			}
			rows, err := b.Each(ctx, b.relays(with, "stream"), func(ctx context.Context, s system.System) (report.Row, error) {
				return b.Drain(ctx, s, Drain{To: NATS, Case: e.name, Messages: messages / e.each, Fill: messages})
			})
			if err != nil {
				return t, err
			}
			all[i] = append(all[i], rows...)
		}
	}
	t.Rows = medianRows(all)
	for i := 1; i < len(t.Rows); i++ {
		t.Rows[i].Add("of those as they are", 100*shareOf(all[i], all[0])*float64(expressions[i].each), "%")
	}
	t.Notes = append([]string{"Of what is left out nothing is delivered: the rate is that of the rest. Percentages are of the messages that are looked at: medians of the rounds' own."}, drainNotes...)
	return t, nil
}
