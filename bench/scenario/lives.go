package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

func init() {
	for i, l := range []struct {
		name  string
		to    Kind
		rate  float64
		title string
	}{
		{"live-1000", NATS, 1000, "1,000 single-row transactions/s into NATS, from the return of COMMIT to the arrival"},
		{"live-3000", NATS, 3000, "3,000 single-row transactions/s into NATS, from the return of COMMIT to the arrival"},
		{"live-webhook", Webhook, 1000, "1,000 single-row transactions/s to a webhook, from the return of COMMIT to the arrival"},
	} {
		register(20+i, Scenario{Name: l.name, Title: l.title, Run: func(ctx context.Context, b *Bench) (report.Table, error) {
			return live(ctx, b, l.to, l.rate)
		}})
	}
}

func live(ctx context.Context, b *Bench, to Kind, rate float64) (t report.Table, err error) {
	return liveOf(ctx, b, b.Systems(to), to, rate)
}

func liveOf(ctx context.Context, b *Bench, systems []system.System, to Kind, rate float64) (t report.Table, err error) {
	duration := Pick(b, 5*time.Second, 20*time.Second)
	t.Rows, err = b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
		return b.Live(ctx, s, Live{To: to, Rate: rate, Duration: duration})
	})
	t.Notes = []string{fmt.Sprintf("%v after a second to warm up. The rate is what had arrived when the last transaction was committed. The WAL has the INSERT in it.", duration)}
	if to == NATS {
		t.Notes = append(t.Notes, "Arrivals in NATS are those at a plain subscriber, before the message is stored.")
	}
	return t, err
}
