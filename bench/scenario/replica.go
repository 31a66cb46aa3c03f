package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/pin"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/bench/system/postrider"
	"github.com/postrider/postrider/internal/pgtest"
)

func init() {
	register(140, Scenario{
		Name: "replica", Apart: true, Run: replica,
		Title: "a replay of a backlog into JetStream, read from a hot standby and from the primary: what that costs the two",
	})
}

// replaying is one backlog that is replayed again and again.
type replaying struct {
	*Stage
	standby  *pgtest.Server
	messages int
	address  string // where the relay tells its metrics
}

// replica has the two take turns, over one backlog.
func replica(ctx context.Context, b *Bench) (t report.Table, err error) {
	n := b.Replay
	if n == 0 {
		n = Pick(b, 500_000, 5_000_000)
	}
	t.Notes = []string{
		"In each row there is a standby, which replays what the primary writes. PostgreSQL is the primary, and dest. is the standby: CPU seconds per 100,000.",
		"Pages read are those that came from the standby, as the relay counts them.",
		fmt.Sprintf("They take turns: of %d rounds of each the one in the middle.", rounds),
	}
	for _, s := range b.relays(nil, "stream") {
		rows, err := b.replays(ctx, s.(*postrider.Postrider), n)
		t.Rows = append(t.Rows, rows...)
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// replays makes the backlog and the standby, and measures.
func (b *Bench) replays(ctx context.Context, relay *postrider.Postrider, n int) (rows []report.Row, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	relay.Subscriptions = func(system.Destination) []postrider.Subscription { return nil }
	st, err := b.Stage(ctx, relay, NATS)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r := &replaying{Stage: st, messages: n, address: address}
	err = b.Env.Pins.Start(pin.Destination, func() (err error) {
		r.standby, err = b.Env.PG.Standby(ctx, pgtest.Options{Settings: map[string]string{"shared_buffers": env.Settings["shared_buffers"]}})
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.standby.Stop()) }()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	sources := []struct {
		name string
		env  []string
	}{{"from the standby", []string{"POSTRIDER_REPLICA_URL=" + r.standby.URL(st.database)}}, {"from the primary", nil}}
	all := make([][]report.Row, len(sources))
	for range rounds {
		for i, source := range sources {
			relay.Env = append([]string{"POSTRIDER_HTTP_ADDR=" + address}, source.env...)
			row, err := b.One(ctx, relay, func(ctx context.Context, _ system.System) (report.Row, error) { return r.replay(ctx, source.name) })
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], row)
		}
	}
	for _, list := range all {
		rows = append(rows, medianRow(list))
	}
	return rows, nil
}

// prepare makes the backlog, which the subscription has behind it, and waits until the standby has it.
func (r *replaying) prepare(ctx context.Context) error {
	if err := r.Fill(ctx, r.messages); err != nil {
		return err
	}
	sub := postrider.Default(r.To)[0]
	if err := r.exec(ctx, "SELECT postrider.subscribe($1, $2, $3, '{}', 'now')", sub.Name, sub.Topics, sub.Sink); err != nil {
		return err
	}
	return r.bench.Env.PG.AwaitCaughtUp(ctx, r.standby)
}

func (r *replaying) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := r.connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// replay runs a relay for one replay. JetStream has forgotten the earlier ones, and drops none of it as known.
func (r *replaying) replay(ctx context.Context, name string) (row report.Row, err error) {
	if err := r.bench.Env.NATS.Fresh(ctx); err != nil {
		return row, err
	}
	if err := r.Start(ctx); err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, r.Stop()) }()
	if err := r.bench.Env.PG.AwaitCaughtUp(ctx, r.standby); err != nil {
		return row, err
	}
	m, err := r.bench.Env.Meter(ctx, env.Watch{Relay: r.Process.PID(), Destination: []int{r.standby.Pid()}})
	if err != nil {
		return row, err
	}
	p := pace{start: time.Now()}
	err = r.exec(ctx, "SELECT postrider.replay($1, 'earliest')", postrider.Default(r.To)[0].Name)
	if err == nil {
		started := make(chan struct{})
		close(started)
		err = r.count(ctx, &p, int64(r.messages), 10*time.Minute, started)
	}
	costs, err := end(ctx, m, err)
	if err != nil {
		return row, err
	}
	row = report.Row{Case: fmt.Sprintf("%s, %s", thousands(r.messages), name), Messages: p.count, Seconds: p.last.Sub(p.first).Seconds(), Rate: p.rate()}
	charge(&row, costs, p.count)
	pages, err := r.pages(ctx)
	for _, result := range []string{"read", "behind", "failed"} {
		row.Add("pages "+result, pages[result], "")
	}
	row.Add("primary's CPU", costs.Postgres.CPU.Seconds(), "s")
	row.Add("standby's CPU", costs.Destination.CPU.Seconds(), "s")
	return row, err
}

// freeAddress is one of the loopback interface at which nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// pages are how many pages were to come from the replica, by what came of that, as the relay counts them.
func (r *replaying) pages(ctx context.Context) (by map[string]float64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the relay for its metrics: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the relay for its metrics: %w", err)
	}
	return pagesOf(string(text))
}

// pagesOf reads the metrics.
func pagesOf(text string) (by map[string]float64, err error) {
	by = map[string]float64{}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), `postrider_replica_pages_total{result="`)
		if !ok {
			continue
		}
		result, value, _ := strings.Cut(rest, `"} `)
		if by[result], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("read the relay's metrics: %w", err)
		}
	}
	return by, nil
}
