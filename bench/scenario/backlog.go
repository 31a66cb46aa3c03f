package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

func init() {
	register(45, Scenario{
		Name:  "backlog",
		Title: "drain a backlog of millions into JetStream: first delivery, rate, and memory, beside a backlog of 200,000",
		Run:   backlog,
	})
}

func backlog(ctx context.Context, b *Bench) (t report.Table, err error) {
	sizes := Pick(b, []int{200_000, 1_000_000}, []int{200_000, 5_000_000})
	systems := b.relays(nil, "stream")
	if b.Full {
		systems = append(systems, b.bare(NATS)...)
	}
	t.Notes = []string{"First after: from the start of the program to the first delivery. Other systems: see drain-nats."}
	for _, n := range sizes {
		rows, err := b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
			return b.Drain(ctx, s, Drain{To: NATS, Case: thousands(n), Messages: n, Limit: 5 * time.Minute})
		})
		t.Rows = append(t.Rows, rows...)
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// thousands writes a number of messages for a case.
func thousands(n int) string {
	if n >= 1_000_000 && n%1_000_000 == 0 {
		return fmt.Sprintf("%d million", n/1_000_000)
	}
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
