package scenario

import (
	"context"
	"fmt"
	"net/http"

	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/bare"
	"github.com/postrider/postrider/bench/system/postrider"
)

func init() {
	register(130, Scenario{
		Name: "drain-https", Run: drainHTTPS, Apart: true,
		Title: "a backlog to a webhook on loopback, plain and over TLS, beside net/http in a loop: 64 requests at once",
	})
}

// wire is how a webhook is reached.
type wire struct {
	name string
	url  func(*Bench) string
	h2   bool
}

var wires = []wire{
	{"HTTP/1.1", func(b *Bench) string { return b.Env.Hook.URL + "/" }, false},
	{"TLS, HTTP/1.1", func(b *Bench) string { return b.Env.Hook.TLS + "/" }, false},
	{"TLS, HTTP/2", func(b *Bench) string { return b.Env.Hook.HTTP2 + "/" }, true},
}

// drainHTTPS lets the systems take turns over each wire.
func drainHTTPS(ctx context.Context, b *Bench) (t report.Table, err error) {
	rounds := Pick(b, 3, 7)
	t.Notes = []string{
		fmt.Sprintf("net/http is a loop that keeps no state. The systems take turns: rates, CPU seconds and shares are medians of %d rounds, shares those", rounds),
		"of each round, of what net/http costs with Content-Type alone; 'as sent' has the very headers of Postrider's requests. Certificates are not verified.",
	}
	for _, w := range wires {
		turns := make([][]report.Row, 0, rounds)
		for range rounds {
			rows, err := w.round(ctx, b)
			if err != nil {
				return t, err
			}
			turns = append(turns, rows)
		}
		t.Rows = append(t.Rows, medians(turns)...)
	}
	for i := range t.Rows {
		b.Log("  %s", t.Rows[i].Line())
	}
	return t, nil
}

// round measures each system once: Postrider first, whose headers the others take.
func (w wire) round(ctx context.Context, b *Bench) (rows []report.Row, err error) {
	n := Pick(b, 50_000, 200_000)
	var sent map[string]string
	relay := &postrider.Postrider{Label: "postrider stream", Follow: "stream", Subscriptions: w.subscription(b)}
	for _, s := range []func() system.System{
		func() system.System { return relay },
		func() system.System { return w.bare(b, "net/http, as sent", sent) },
		func() system.System {
			return w.bare(b, "net/http, bare", map[string]string{"Content-Type": "application/json"})
		},
	} {
		row, err := b.One(ctx, s(), func(ctx context.Context, s system.System) (report.Row, error) {
			return b.Drain(ctx, s, Drain{To: Webhook, Case: w.name, Messages: n})
		})
		if err == nil && sent == nil {
			sent, err = b.sent(ctx)
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// subscription is to everything, with 64 lanes from the start.
func (w wire) subscription(b *Bench) func(system.Destination) []postrider.Subscription {
	options := map[string]any{"concurrency": "fixed", "tls": map[string]any{"insecure_skip_verify": true}}
	return func(system.Destination) []postrider.Subscription {
		return []postrider.Subscription{{Name: "bench", Topics: []string{"bench.>"}, Sink: w.url(b), Settings: map[string]any{"lanes": 64, "options": options}}}
	}
}

func (w wire) bare(b *Bench, label string, header map[string]string) system.System {
	return &bare.Bare{Label: label, HTTP: &bare.HTTP{URL: w.url(b), Header: header, HTTP2: w.h2}}
}

// sent is the header of what was delivered last, without what net/http writes by itself.
func (b *Bench) sent(ctx context.Context) (map[string]string, error) {
	header, err := b.Env.Hook.Header(ctx)
	if err != nil {
		return nil, err
	}
	sent := map[string]string{}
	for name := range header {
		if name != http.CanonicalHeaderKey("Content-Length") {
			sent[name] = header.Get(name)
		}
	}
	return sent, nil
}

// medians makes a row for each system of what it had in each round. Shares are of the system that is last.
func medians(turns [][]report.Row) []report.Row {
	last := len(turns[0]) - 1
	rows := make([]report.Row, len(turns[0]))
	for i := range rows {
		var all []report.Row
		for _, turn := range turns {
			all = append(all, turn[i])
		}
		rows[i] = medianRow(all)
		if rows[i].Error != "" {
			continue
		}
		of := func(value func(report.Row) float64) (values, shares []float64) {
			for _, turn := range turns {
				if turn[i].Error == "" && turn[last].Error == "" {
					values, shares = append(values, value(turn[i])), append(shares, 100*value(turn[i])/value(turn[last]))
				}
			}
			return values, shares
		}
		for _, c := range []struct {
			name  string
			value func(*report.Row) *float64
		}{
			{"rate", func(r *report.Row) *float64 { return &r.Rate }},
			{"relay CPU", func(r *report.Row) *float64 { return &r.RelayCPU }},
			{"receiver CPU", func(r *report.Row) *float64 { return &r.DestinationCPU }},
		} {
			values, shares := of(func(r report.Row) float64 { return *c.value(&r) })
			*c.value(&rows[i]) = median(values)
			rows[i].Add(c.name+" of bare", median(shares), "%")
		}
	}
	return rows
}
