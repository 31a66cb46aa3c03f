package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/postrider"
)

func init() {
	register(70, Scenario{
		Name:  "topics",
		Title: "subscriptions on a topic each at 5,000 messages/s (10 a transaction): does it keep pace, and what does a message cost?",
		Run:   topics,
	})
}

// fan is how many subscriptions there are, each to a topic of its own, and how many of the topics get messages.
type fan struct{ subscriptions, used int }

const topicsRate = 5000

func topics(ctx context.Context, b *Bench) (t report.Table, err error) {
	duration := Pick(b, 5*time.Second, 20*time.Second)
	t.Notes = []string{"Every message is one delivery, to the one subscription on its topic."}
	for _, f := range []fan{{10, 10}, {1000, 10}, {1000, 1000}} {
		systems := b.relays(topicEach(f.subscriptions), Pick(b, []string{"stream"}, nil)...)
		rows, err := b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
			return b.fan(ctx, s, f, duration)
		})
		t.Rows = append(t.Rows, rows...)
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

func topicEach(n int) func(to system.Destination) []postrider.Subscription {
	return func(to system.Destination) (list []postrider.Subscription) {
		for i := range n {
			s := postrider.Default(to)[0]
			s.Name, s.Topics = fmt.Sprintf("s%d", i), []string{fmt.Sprintf("bench.t%d", i)}
			list = append(list, s)
		}
		return list
	}
}

func (b *Bench) fan(ctx context.Context, s system.System, f fan, duration time.Duration) (row report.Row, err error) {
	st, err := b.Stage(ctx, s, NATS)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := errors.Join(st.Listen(ctx), st.Start(ctx)); err != nil {
		return row, err
	}
	const rows = 10
	p := load.Producer{Rate: topicsRate / rows, Rows: rows, Connections: 4, Duration: 2 * time.Second,
		Topic: func(n int64) string { return fmt.Sprintf("bench.t%d", n%int64(f.used)) }}
	// Every subscription gets a message first, so that the connections and plans are there.
	rec := &load.Recorder{}
	warm, err := st.Produce(ctx, p, rec)
	if err == nil {
		_, err = st.AwaitArrived(ctx, warm.Messages, arriveLimit)
	}
	if err != nil {
		return row, err
	}
	m, err := st.Meter(ctx)
	if err != nil {
		return row, err
	}
	began := time.Now()
	p.First, p.Duration = warm.Messages+1, duration
	made, err := st.Produce(ctx, p, rec)
	if err == nil {
		_, err = st.AwaitArrived(ctx, warm.Messages+made.Messages, arriveLimit)
	}
	costs, err := end(ctx, m, err)
	if err != nil {
		return row, err
	}
	times, err := st.Times(ctx)
	if err != nil {
		return row, err
	}
	h, missing := load.Latencies(rec.Times(), times, func(n int64, _ time.Time) bool { return n > warm.Messages })
	row = report.Row{Case: f.name(), Messages: made.Messages, Seconds: made.Time.Seconds(), Latency: h.Latency()}
	row.Rate = (arrivedBy(times, began.Add(made.Time)) - arrivedBy(times, began)) / made.Time.Seconds()
	charge(&row, costs, made.Messages)
	row.Add("produced", made.Rate(), "/s")
	row.Add("not arrived", float64(missing), "")
	began = time.Now()
	err = st.Stop()
	row.Add("to stop", time.Since(began).Seconds(), "s")
	return row, err
}

func (f fan) name() string {
	if f.used == f.subscriptions {
		return fmt.Sprintf("%d subscriptions", f.subscriptions)
	}
	return fmt.Sprintf("%d, %d of them with messages", f.subscriptions, f.used)
}
