package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/bare"
	"github.com/postrider/postrider/bench/system/postrider"
)

func init() {
	register(141, Scenario{
		Name: "backlog-large", Apart: true, Run: backlogLarge,
		Title: "drain backlogs of up to fifty million small messages into JetStream: what each costs, the first delivery, and how long `postrider status` takes",
	})
}

const (
	smallPayload = 40        // bytes: fifty million messages are to fit onto a disk,
	streamKeeps  = 1_000_000 // and the stream keeps no more than so many of them,
	streamKnows  = time.Second
	largest      = 50_000_000
	statusEvery  = 5 * time.Second
	statusRest   = 5 // looks before the relay starts
)

// largeSizes are those up to most.
func largeSizes(most int) (sizes []int) {
	if most == 0 {
		most = largest
	}
	for _, n := range []int{200_000, 5_000_000, largest} {
		if n < most {
			sizes = append(sizes, n)
		}
	}
	return append(sizes, most)
}

func backlogLarge(ctx context.Context, b *Bench) (t report.Table, err error) {
	t.Notes = []string{
		fmt.Sprintf("Payloads of %d bytes. The stream keeps the last %s messages and knows their ids for %v, so that its server costs the same for each size.",
			smallPayload, thousands(streamKeeps), streamKnows),
		"First after: from the start of the program to the first delivery. Status: how long the command takes, in the middle of what it took " +
			"before the relay was there (at rest), and while it delivers (meanwhile, every five seconds, and at most).",
	}
	systems := append(b.relays(nil, "stream"), b.bare(NATS)...)
	for _, n := range largeSizes(b.Backlog) {
		rows, err := b.Each(ctx, small(systems), func(ctx context.Context, s system.System) (report.Row, error) { return b.drainLarge(ctx, s, n) })
		t.Rows = append(t.Rows, rows...)
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// small has the systems fill their tables with small payloads.
func small(systems []system.System) (list []system.System) {
	for _, s := range systems {
		switch s := s.(type) {
		case *postrider.Postrider:
			other := *s
			other.PayloadBytes = smallPayload
			list = append(list, &other)
		case *bare.Bare:
			other := *s
			other.PayloadBytes = smallPayload
			list = append(list, &other)
		}
	}
	return list
}

// drainLarge is Drain, with looks at the status if the system has one.
func (b *Bench) drainLarge(ctx context.Context, s system.System, n int) (row report.Row, err error) {
	relay, _ := s.(*postrider.Postrider)
	var rest, meanwhile []time.Duration
	d := Drain{To: NATS, Case: thousands(n), Messages: n, Limit: time.Hour,
		Prepare: func(ctx context.Context, _ *Stage) error {
			return b.Env.NATS.Limit(ctx, streamKeeps, streamKnows)
		}}
	if relay != nil {
		d.Filled = func(ctx context.Context, st *Stage) error {
			for range statusRest {
				took, err := relay.Status(ctx, st.Place)
				if err != nil {
					return err
				}
				rest = append(rest, took)
			}
			return nil
		}
		d.Meanwhile = func(ctx context.Context, st *Stage) error {
			for pause(ctx, statusEvery) == nil {
				took, err := relay.Status(ctx, st.Place)
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				meanwhile = append(meanwhile, took)
			}
			return nil
		}
	}
	row, err = b.Drain(ctx, s, d)
	if err == nil && relay != nil {
		row.Add("status at rest", report.Milliseconds(middle(rest)), "ms")
		if len(meanwhile) > 0 {
			row.Add("meanwhile", report.Milliseconds(middle(meanwhile)), "ms")
			row.Add("at most", report.Milliseconds(slices.Max(meanwhile)), "ms")
		}
	}
	return row, err
}

// middle is the median; 0: there are none.
func middle(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
