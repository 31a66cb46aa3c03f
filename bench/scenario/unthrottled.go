package scenario

import (
	"context"
	"time"

	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
)

func init() {
	register(50, Scenario{
		Name:  "unthrottled",
		Title: "producers without a limit, 4 connections, 10 rows a transaction: are they kept up with, and what do they lose?",
		Run:   unthrottled,
	})
	register(55, Scenario{
		Name:  "open-transaction",
		Title: "the same while another transaction is held open the whole time: the beginning beside the end",
		Run:   openTransaction,
	})
}

// everything is our own systems and the peers, each with the destination that it is made for.
func (b *Bench) everything() []system.System {
	list := b.Systems(NATS)
	for _, s := range b.Systems(Webhook) {
		if !s.Supports(b.Destination(NATS)) {
			list = append(list, s)
		}
	}
	return list
}

func unthrottled(ctx context.Context, b *Bench) (t report.Table, err error) {
	p := pressure{duration: Pick(b, 4*time.Second, 15*time.Second), rest: Pick(b, 2*time.Second, 30*time.Second)}
	p.alone = p.duration
	t.Notes = []string{
		"alone: what the same producers write into the same tables while nothing reads them. Rate: deliveries until the producers end.",
		"Lag: the greatest age of an undelivered message. CPU per 100,000 messages delivered by then; the WAL includes the producers' own.",
	}
	systems := b.everything()
	if !b.Full {
		systems = b.shorter(systems)
		t.Notes = append(t.Notes, "The timer and further configurations of the peers are part of the full run.")
	}
	t.Rows, err = b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
		return b.Pressure(ctx, s, p)
	})
	return t, err
}

func openTransaction(ctx context.Context, b *Bench) (t report.Table, err error) {
	p := pressure{duration: Pick(b, 20*time.Second, time.Minute), open: true, rest: Pick(b, time.Second, 10*time.Second)}
	p.window = Pick(b, p.duration/4, 10*time.Second)
	systems := b.everything()
	if !b.Full {
		systems = b.least(systems)
		t.Notes = append(t.Notes, "The timer, the bare pipe and further peers are part of the full run.")
	}
	t.Notes = append(t.Notes, "The transaction has an id and a snapshot. It begins when the system delivers already.")
	t.Rows, err = b.Each(ctx, systems, func(ctx context.Context, s system.System) (report.Row, error) {
		return b.Pressure(ctx, s, p)
	})
	return t, err
}
