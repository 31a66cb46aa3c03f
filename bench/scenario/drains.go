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

// copies is the number of subscriptions that are drained at once.
const copies = 10

func init() {
	register(10, Scenario{
		Name: "drain-nats", Run: drainNATS,
		Title: "a backlog into JetStream, with message ids",
	})
	register(11, Scenario{
		Name: "drain-webhook", Run: drainWebhook,
		Title: "a backlog to a webhook on loopback, 64 requests at once",
	})
	register(12, Scenario{
		Name: "drain-ten", Run: drainTen,
		Title: "a backlog to ten subscriptions at once, each with a JetStream stream of its own; messages and rates are deliveries",
	})
}

// backlog is the number of messages to drain: peers that are slow get fewer, and the rate of what they have done in time.
func (b *Bench) backlog(s system.System, short int) (n int, limit time.Duration) {
	if b.Peer(s) {
		return Pick(b, 40_000, 100_000), Pick(b, 6*time.Second, 15*time.Second)
	}
	return Pick(b, short, 200_000), time.Minute
}

func drainNATS(ctx context.Context, b *Bench) (t report.Table, err error) {
	var own, peers []system.System
	for _, s := range b.Systems(NATS) {
		if b.Peer(s) {
			peers = append(peers, s)
		} else {
			own = append(own, s)
		}
	}
	batches := bare.NewBatches()
	if slices.ContainsFunc(own, isBare) {
		own = append(own, batches)
	}
	drain := func(ctx context.Context, s system.System) (report.Row, error) {
		n, limit := b.backlog(s, 200_000)
		d := Drain{To: NATS, Messages: n, Limit: limit}
		if s == batches {
			d.Prepare = allowBatches
		}
		return b.Drain(ctx, s, d)
	}
	if t.Rows, err = b.Median(ctx, own, drain); err != nil {
		return t, err
	}
	rows, err := b.Each(ctx, peers, drain)
	t.Rows = append(t.Rows, rows...)
	t.Notes = append(slices.Clone(drainNotes), fmt.Sprintf("Postrider and the bare pipe take turns: of %d rounds of each the one in the middle.", rounds))
	return t, err
}

func isBare(s system.System) bool {
	_, is := s.(*bare.Bare)
	return is
}

// allowBatches makes the stream take fast batches.
func allowBatches(ctx context.Context, st *Stage) error { return st.bench.Env.NATS.AllowBatches(ctx) }

func drainWebhook(ctx context.Context, b *Bench) (t report.Table, err error) {
	t.Rows, err = b.Each(ctx, b.Systems(Webhook), func(ctx context.Context, s system.System) (report.Row, error) {
		n, limit := b.backlog(s, 100_000)
		return b.Drain(ctx, s, Drain{To: Webhook, Messages: n, Limit: limit})
	})
	if err != nil {
		return t, err
	}
	// Job servers without a destination: what their own work allows.
	rows, err := b.Each(ctx, b.Systems(Nowhere), func(ctx context.Context, s system.System) (report.Row, error) {
		n, limit := b.backlog(s, 100_000)
		return b.Drain(ctx, s, Drain{To: Nowhere, Messages: n, Limit: limit})
	})
	t.Rows, t.Notes = append(t.Rows, rows...), drainNotes
	return t, err
}

var drainNotes = []string{"The rate is that from the first delivery to the last; the WAL is what the deliveries write."}

// drainTen compares ten at once with one: to be read with drain-nats.
func drainTen(ctx context.Context, b *Bench) (t report.Table, err error) {
	var systems []system.System
	for _, s := range b.Own {
		switch s := s.(type) {
		case *postrider.Postrider:
			ten := *s
			ten.Subscriptions = tenStreams
			systems = append(systems, &ten)
		case *bare.Bare:
			if s.Raw {
				continue
			}
			systems = append(systems, &bare.Bare{Label: s.Label, Copies: copies})
		}
	}
	n := Pick(b, 50_000, 200_000)
	t.Rows, err = b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
		return b.Drain(ctx, s, Drain{To: NATS, Case: fmt.Sprintf("%d subscriptions", copies), Messages: n, Copies: copies, Prepare: addTenStreams})
	})
	t.Notes = drainNotes
	return t, err
}

func streamName(i int) string { return fmt.Sprintf("S%d", i) }

// tenStreams are subscriptions to everything, each to the stream of its number.
func tenStreams(to system.Destination) (list []postrider.Subscription) {
	for i := range copies {
		sink := fmt.Sprintf("%s?stream=%s&prefix=s%d.", to.NATS, streamName(i), i)
		list = append(list, postrider.Subscription{Name: fmt.Sprintf("s%d", i), Topics: []string{"bench.>"}, Sink: sink})
	}
	return list
}

func addTenStreams(ctx context.Context, st *Stage) error {
	for i := range copies {
		st.Streams = append(st.Streams, streamName(i))
		if err := st.bench.Env.NATS.AddStream(ctx, streamName(i), fmt.Sprintf("s%d.>", i)); err != nil {
			return err
		}
	}
	return nil
}
