package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/bench/bridge"
	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/postrider"
)

func init() {
	for i, k := range bridge.All() {
		register(100+i, Scenario{
			Name: "drain-" + k.Name, Apart: true,
			Title: "a backlog into " + k.Label + ", beside a loop around the same client library",
			Run: func(ctx context.Context, b *Bench) (report.Table, error) {
				return b.Bridged(ctx, &k, func() (report.Table, error) { return drainBridge(ctx, b, &k) })
			},
		})
		register(120+i, Scenario{
			Name: "live-" + k.Name, Apart: true,
			Title: "1,000 single-row transactions/s into " + k.Label + ", from the return of COMMIT to the arrival",
			Run: func(ctx context.Context, b *Bench) (report.Table, error) {
				return b.Bridged(ctx, &k, func() (report.Table, error) {
					t, err := liveOf(ctx, b, b.ToBridge(&k), Kind(k.Name), 1000)
					t.Notes = append(t.Notes, "Arrival: "+k.Heard+".")
					return t, err
				})
			},
		})
	}
}

// Bridged measures while a destination runs. One that is not there is no error: the table says so.
func (b *Bench) Bridged(ctx context.Context, k *bridge.Kind, measure func() (report.Table, error)) (t report.Table, err error) {
	dir, err := b.Env.NewDir(fmt.Sprintf("bridge-%s-%d", k.Name, b.stages))
	if err != nil {
		return t, err
	}
	starting, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var server bridge.Server
	err = b.Env.Pins.Start(pin.Destination, func() (err error) {
		server, err = k.Start(starting, dir)
		return err
	})
	if ctx.Err() != nil {
		return t, errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		t.Notes = []string{fmt.Sprintf("Not measured: %v", err)}
		return t, nil
	}
	b.bridge = server
	defer func() { b.bridge, err = nil, errors.Join(err, server.Stop()) }()
	t, err = measure()
	t.Notes = append(t.Notes, "Served by "+k.Served+".")
	return t, err
}

// ToBridge returns the systems that are measured with a destination: of Postrider the way that it takes by default.
func (b *Bench) ToBridge(k *bridge.Kind) (list []system.System) {
	for _, s := range b.Systems(Kind(k.Name)) {
		if p, ok := s.(*postrider.Postrider); !ok || p.Follow == "stream" {
			list = append(list, s)
		}
	}
	return list
}

// drainBridge has Postrider and the loops take turns.
func drainBridge(ctx context.Context, b *Bench, k *bridge.Kind) (t report.Table, err error) {
	var own, peers []system.System
	for _, s := range b.ToBridge(k) {
		if b.Peer(s) {
			peers = append(peers, s)
		} else {
			own = append(own, s)
		}
	}
	drain := func(ctx context.Context, s system.System) (report.Row, error) {
		n, limit := b.backlog(s, 200_000)
		limit = min(limit, Pick(b, 15*time.Second, time.Minute)) // what is slow everywhere, such as a disk, is slow for all of them
		return b.Drain(ctx, s, Drain{To: Kind(k.Name), Messages: n, Limit: limit})
	}
	all, err := b.Rounds(ctx, own, drain)
	if err != nil {
		return t, err
	}
	t.Rows = medianRows(all)
	share(t.Rows, all)
	rows, err := b.Each(ctx, peers, drain)
	t.Rows = append(t.Rows, rows...)
	t.Notes = append(slices.Clone(drainNotes),
		fmt.Sprintf("Postrider and the loops take turns: of %d rounds of each the one in the middle; percentages are medians of the rounds' own.", rounds),
		"The bare pipe's messages have an id and the payload; with all attributes they have what Postrider's have.")
	return t, err
}

// share adds what each rate of Postrider is of the bare pipes', in all rounds.
func share(rows []report.Row, all [][]report.Row) {
	for i := range rows {
		for j, pipe := range rows {
			if strings.HasPrefix(rows[i].System, "postrider") && strings.HasPrefix(pipe.System, "bare pipe") {
				rows[i].Add("of "+pipe.System, 100*shareOf(all[i], all[j]), "%")
			}
		}
	}
}
