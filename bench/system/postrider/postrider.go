// Package postrider measures Postrider itself: the real program, built from the sources beside the bench.
package postrider

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/bridge"
	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
	"github.com/postrider/postrider/outbox"
)

// Postrider is a relay with its subscriptions.
type Postrider struct {
	// Label is its name in tables.
	Label string
	// Follow is POSTRIDER_FOLLOW: stream, listen or timer.
	Follow string
	// Env has further settings, such as "POSTRIDER_POLL_MIN=1ms". Default: none, so all settings have their defaults.
	Env []string
	// PayloadBytes are those of each message of a backlog. Default: system.PayloadBytes.
	PayloadBytes int
	// Subscriptions are made when it is installed. Default: one to everything, see Default.
	Subscriptions func(to system.Destination) []Subscription
}

// Subscription is what postrider.subscribe takes, from the earliest message on.
type Subscription struct {
	Name     string
	Topics   []string
	Sink     string
	Settings map[string]any
}

var (
	_ system.System  = (*Postrider)(nil)
	_ system.Tables  = (*Postrider)(nil)
	_ system.Settler = (*Postrider)(nil)
)

// NewStream returns the relay that streams from the WAL.
func NewStream() system.System { return &Postrider{Label: "postrider stream", Follow: "stream"} }

// NewTimer returns the relay that looks at the table.
func NewTimer() system.System { return &Postrider{Label: "postrider timer", Follow: "timer"} }

// Default is one subscription to everything under "bench.": to the stream BENCH, or to another kind of destination, with the sink's own settings, or to the webhook with 64
// lanes from the start (by default they begin with four and grow, up to 16).
func Default(to system.Destination) []Subscription {
	if to.NATS != "" {
		return []Subscription{{Name: "bench", Topics: []string{"bench.>"}, Sink: to.NATS + "?stream=BENCH"}}
	}
	if to.Bridge.Kind != "" {
		return []Subscription{bridged(to.Bridge)}
	}
	return []Subscription{{Name: "bench", Topics: []string{"bench.>"}, Sink: to.Webhook,
		Settings: map[string]any{"lanes": 64, "options": map[string]any{"concurrency": "fixed"}}}}
}

// bridged is a subscription to a destination of another kind, with the sink's own settings. An unknown kind is an error of whoever subscribes.
func bridged(to system.Bridge) Subscription {
	sink, err := bridge.SinkFor(to)
	if err != nil {
		sink.URL = err.Error()
	}
	s := Subscription{Name: "bench", Topics: []string{"bench.>"}, Sink: sink.URL}
	if sink.Options != nil {
		s.Settings = map[string]any{"options": sink.Options}
	}
	return s
}

// Name is the label.
func (s *Postrider) Name() string { return s.Label }

// Supports tells that it delivers to all of them.
func (s *Postrider) Supports(to system.Destination) bool { return to != system.Destination{} }

// Tables is its schema.
func (s *Postrider) Tables() []string { return []string{"postrider.%"} }

// Install makes the schema and the subscriptions.
func (s *Postrider) Install(ctx context.Context, p system.Place) error {
	program, err := build(ctx, filepath.Dir(p.Dir))
	if err != nil {
		return err
	}
	if out, err := s.command(ctx, program, p, "migrate").CombinedOutput(); err != nil {
		return fmt.Errorf("make the schema: %w\n%s", err, out)
	}
	subscriptions := s.Subscriptions
	if subscriptions == nil {
		subscriptions = Default
	}
	return query(ctx, p, func(conn *pgx.Conn) error {
		for _, sub := range subscriptions(p.To) {
			if err := subscribe(ctx, conn, sub); err != nil {
				return err
			}
		}
		return nil
	})
}

func subscribe(ctx context.Context, conn *pgx.Conn, sub Subscription) error {
	settings, err := json.Marshal(sub.Settings)
	if sub.Settings == nil {
		settings = []byte("{}")
	}
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT postrider.subscribe($1, $2, $3, $4, 'earliest')", sub.Name, sub.Topics, sub.Sink, string(settings))
	}
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", sub.Name, err)
	}
	return nil
}

// Enqueue uses the Go API.
func (s *Postrider) Enqueue(ctx context.Context, tx pgx.Tx, messages []system.Message) error {
	list := make([]outbox.Message, len(messages))
	for i, m := range messages {
		list[i] = outbox.Message{Topic: m.Topic, Payload: json.RawMessage(m.Payload())}
	}
	if len(list) == 1 {
		_, err := outbox.Enqueue(ctx, tx, list[0])
		return err
	}
	_, err := outbox.EnqueueBatch(ctx, tx, list)
	return err
}

// fillBatch is the number of rows in a transaction of a backlog.
const fillBatch = 1000

// Fill inserts in transactions of 1,000 rows.
func (s *Postrider) Fill(ctx context.Context, conn *pgx.Conn, n int) error {
	const insert = `INSERT INTO postrider.outbox (topic, payload)
		SELECT 'bench.t1', jsonb_build_object('n', i, 'pad', repeat('x', $3 - 15 - length(i::text))) FROM generate_series($1::bigint, $2) i`
	for from := 1; from <= n; from += fillBatch {
		if _, err := conn.Exec(ctx, insert, from, min(from+fillBatch-1, n), cmp.Or(s.PayloadBytes, system.PayloadBytes)); err != nil {
			return err
		}
	}
	return nil
}

// Start runs the relay until it owns all subscriptions.
func (s *Postrider) Start(ctx context.Context, p system.Place) (system.Process, error) {
	program, err := build(ctx, filepath.Dir(p.Dir))
	if err != nil {
		return nil, err
	}
	cmd := s.command(context.WithoutCancel(ctx), program, p, "run")
	process, err := child.Start(ctx, child.Spec{Name: s.Label, Cmd: cmd, Log: filepath.Join(p.Dir, "relay.log")})
	if err != nil {
		return nil, err
	}
	owned := func(ctx context.Context) error {
		return ask(ctx, p, "it does not own all subscriptions", "SELECT bool_and(owner IS NOT NULL) FROM postrider.cursors")
	}
	if err := await(ctx, process, owned); err != nil {
		process.Kill()
		return nil, fmt.Errorf("start %s: %w; %s", s.Label, err, process.LogTail(10))
	}
	return process, nil
}

// Status runs the command that shows where it stands, and returns how long that took.
func (s *Postrider) Status(ctx context.Context, p system.Place) (time.Duration, error) {
	program, err := build(ctx, filepath.Dir(p.Dir))
	if err != nil {
		return 0, err
	}
	cmd := s.command(ctx, program, p, "status", "--json")
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("ask for the status: %w\n%s", err, out)
	}
	return time.Since(began), nil
}

// Settle waits until it streams, where it is going to.
func (s *Postrider) Settle(ctx context.Context, p system.Place) error {
	if s.Follow != "stream" {
		return nil
	}
	return await(ctx, nil, func(ctx context.Context) error {
		return ask(ctx, p, "there is no stream", `SELECT EXISTS (SELECT FROM pg_replication_slots
			WHERE database = current_database() AND active AND confirmed_flush_lsn IS NOT NULL)`)
	})
}

// command is a command of the relay's program, with nothing in its environment that was not meant for it.
func (s *Postrider) command(ctx context.Context, program string, p system.Place, args ...string) *exec.Cmd {
	cmd := child.Gentle(exec.CommandContext(ctx, program, args...))
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "POSTRIDER_") && !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "POSTRIDER_DATABASE_URL="+p.Database, "POSTRIDER_FOLLOW="+s.Follow, "POSTRIDER_MIGRATE=false",
		"POSTRIDER_HTTP_ADDR=127.0.0.1:0", "POSTRIDER_NAME=bench")
	if p.To.Bridge.Kind != "" {
		sink, _ := bridge.SinkFor(p.To.Bridge) // an unknown kind has none
		cmd.Env = append(cmd.Env, sink.Env...)
	}
	cmd.Env = append(cmd.Env, s.Env...)
	return cmd
}

// await polls until ok returns nil, ctx ends, or the process does.
func await(ctx context.Context, process *child.Process, ok func(context.Context) error) error {
	var ended <-chan struct{}
	if process != nil {
		ended = process.Ended()
	}
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-ended:
			return errors.New("it has ended by itself")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ask returns an error that says not if the query does not yield true.
func ask(ctx context.Context, p system.Place, not, sql string) error {
	return query(ctx, p, func(conn *pgx.Conn) error {
		var yes *bool
		if err := conn.QueryRow(ctx, sql).Scan(&yes); err != nil {
			return err
		}
		if yes == nil || !*yes {
			return errors.New(not)
		}
		return nil
	})
}

func query(ctx context.Context, p system.Place, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, p.Database)
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(context.WithoutCancel(ctx)))
}
