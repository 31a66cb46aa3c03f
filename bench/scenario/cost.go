package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/bench/env"
	"github.com/postrider/postrider/bench/report"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/migrations"
	"github.com/postrider/postrider/outbox"
)

func init() {
	register(80, Scenario{
		Name:  "producer-cost",
		Title: "rows a second that producers insert, no relay: postrider.outbox, its parts, and a plain table with the same payload",
		Run:   producerCost,
	})
}

const costConnections = 8

// costBatches are the numbers of rows in a transaction.
var costBatches = []int{1, 100}

func producerCost(ctx context.Context, b *Bench) (t report.Table, err error) {
	name, url, err := b.Env.NewDatabase(ctx)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, b.Env.DropDatabase(context.WithoutCancel(ctx), name)) }()
	if _, err := migrations.Up(ctx, url); err != nil {
		return t, err
	}
	c := &costs{bench: b, url: url, slice: Pick(b, 90*time.Millisecond, time.Second), spent: map[costCase]*spent{}}
	if err := c.open(ctx); err != nil {
		return t, err
	}
	defer c.close(context.WithoutCancel(ctx))
	if c.variants, err = variants(ctx, c.conns[0]); err != nil {
		return t, err
	}
	rounds := Pick(b, 7, 15)
	t.Notes = []string{
		fmt.Sprintf("%d connections, each transaction one statement. Rates are medians of %d rounds in which the tables take turns of %v, each", costConnections, rounds, c.slice),
		"emptied and warmed up before; percentages are medians, too, of the rounds' shares of the plain table's rate. CPU seconds are PostgreSQL's per 100,000 rows.",
	}
	for range rounds {
		if err := c.round(ctx); err != nil {
			return t, err
		}
	}
	t.Rows = c.rows()
	for i := range t.Rows {
		b.Log("  %s", t.Rows[i].Line())
	}
	return t, nil
}

// costCase is a table and a number of rows in a transaction.
type costCase struct{ variant, batch int }

// spent adds up the rounds.
type spent struct {
	rates []float64
	rows  int64
	costs env.Costs
}

type costs struct {
	bench    *Bench
	url      string
	slice    time.Duration
	conns    []*pgx.Conn
	variants []variant
	spent    map[costCase]*spent
}

func (c *costs) open(ctx context.Context) error {
	for range costConnections {
		conn, err := pgx.Connect(ctx, c.url)
		if err != nil {
			c.close(ctx)
			return fmt.Errorf("connect the producers: %w", err)
		}
		c.conns = append(c.conns, conn)
	}
	return nil
}

func (c *costs) close(ctx context.Context) {
	for _, conn := range c.conns {
		_ = conn.Close(ctx) // the database goes, too
	}
}

// round gives each case a turn.
func (c *costs) round(ctx context.Context) error {
	for i, v := range c.variants {
		for _, batch := range costBatches {
			if err := c.turn(ctx, costCase{i, batch}); err != nil {
				return fmt.Errorf("insert into %s: %w", v.name, err)
			}
		}
	}
	return nil
}

func (c *costs) turn(ctx context.Context, k costCase) error {
	v := c.variants[k.variant]
	if _, err := c.conns[0].Exec(ctx, "TRUNCATE "+v.table); err != nil {
		return err
	}
	if _, _, err := c.produce(ctx, k, 0); err != nil { // plans and caches that TRUNCATE has made void
		return err
	}
	m, err := c.bench.Env.Meter(ctx, env.Watch{})
	if err != nil {
		return err
	}
	rows, took, err := c.produce(ctx, k, c.slice)
	cost, err := end(ctx, m, err)
	if err != nil {
		return err
	}
	s := c.spent[k]
	if s == nil {
		s = &spent{}
		c.spent[k] = s
	}
	s.rates = append(s.rates, float64(rows)/took.Seconds())
	s.rows += rows
	s.costs.Postgres.CPU += cost.Postgres.CPU
	s.costs.WAL += cost.WAL
	return nil
}

// produce inserts with all connections for some time, with each at least a few times.
func (c *costs) produce(ctx context.Context, k costCase, most time.Duration) (rows int64, took time.Duration, err error) {
	const least = 3
	var count atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, conn := range c.conns {
		group.Go(func() error {
			for n := 0; n < least || time.Since(began) < most; n++ {
				if err := c.variants[k.variant].insert(ctx, conn, k.batch); err != nil {
					return err
				}
				count.Add(int64(k.batch))
			}
			return nil
		})
	}
	err = group.Wait()
	return count.Load(), time.Since(began), err
}

// rows are those of the table, for each number of rows in a transaction.
func (c *costs) rows() (list []report.Row) {
	for _, batch := range costBatches {
		plain := c.spent[costCase{0, batch}].rates
		for i, v := range c.variants {
			s := c.spent[costCase{i, batch}]
			row := report.Row{System: v.name, Case: "1 row", Messages: s.rows, Rate: median(s.rates)}
			if batch > 1 {
				row.Case = fmt.Sprintf("%d rows", batch)
			}
			charge(&row, s.costs, s.rows)
			row.Add("of plain", 100*median(ratios(s.rates, plain)), "%")
			list = append(list, row)
		}
	}
	return list
}

// ratios are those of each round: what slows the machine down for some seconds slows both.
func ratios(rates, plain []float64) []float64 {
	r := make([]float64, len(rates))
	for i := range rates {
		r[i] = rates[i] / plain[i]
	}
	return r
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// insert is a transaction of one statement.
func (v variant) insert(ctx context.Context, conn *pgx.Conn, batch int) (err error) {
	if v.api {
		return enqueue(ctx, conn, batch)
	}
	columns, topic := "payload", ""
	if v.topic {
		columns, topic = "topic, payload", "'bench.t1', "
	}
	if batch == 1 {
		_, err = conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s$1::text::jsonb)", v.table, columns, topic), string(system.Payload(1)))
		return err
	}
	payloads := make([]string, batch)
	for i := range payloads {
		payloads[i] = string(system.Payload(int64(i)))
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %sp::jsonb FROM unnest($1::text[]) p", v.table, columns, topic), payloads)
	return err
}

// oneStatement is a transaction of one statement, which PostgreSQL begins and ends by itself: as those of the other variants.
type oneStatement struct{ *pgx.Conn }

var errEndsItself = errors.New("a transaction of one statement ends by itself")

func (oneStatement) Commit(context.Context) error   { return errEndsItself }
func (oneStatement) Rollback(context.Context) error { return errEndsItself }

func enqueue(ctx context.Context, conn *pgx.Conn, batch int) error {
	messages := make([]outbox.Message, batch)
	for i := range messages {
		messages[i] = outbox.Message{Topic: "bench.t1", Payload: json.RawMessage(system.Payload(int64(i)))}
	}
	if batch == 1 {
		_, err := outbox.Enqueue(ctx, oneStatement{conn}, messages[0])
		return err
	}
	_, err := outbox.EnqueueBatch(ctx, oneStatement{conn}, messages)
	return err
}
