package pgq

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system"
)

//go:embed schema.sql
var schema string

const (
	fillRows  = 1000 // of a transaction of the backlog
	fillTicks = 10   // transactions between two ticks
	fillTopic = "bench.t1"
)

// Systems is the method, in one way.
func Systems() []system.System { return []system.System{&method{}} }

type method struct{}

var (
	_ system.System = (*method)(nil)
	_ system.Tables = (*method)(nil)
)

func (*method) Name() string { return "PgQ's method" }

func (*method) Supports(to system.Destination) bool { return to.NATS != "" }

func (*method) Tables() []string { return []string{"ticks.%"} }

func (*method) Install(ctx context.Context, p system.Place) error {
	conn, err := pgx.Connect(ctx, p.Database)
	if err == nil {
		_, err = conn.Exec(ctx, schema)
		err = errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return fmt.Errorf("make the tables of ticks and events: %w", err)
	}
	return nil
}

// Enqueue calls the function for each message, several in one statement.
func (*method) Enqueue(ctx context.Context, tx pgx.Tx, messages []system.Message) error {
	if len(messages) == 1 {
		_, err := tx.Exec(ctx, "SELECT ticks.insert_event($1, $2)", messages[0].Topic, string(messages[0].Payload()))
		return err
	}
	topics, payloads := make([]string, len(messages)), make([]string, len(messages))
	for i, m := range messages {
		topics[i], payloads[i] = m.Topic, string(m.Payload())
	}
	_, err := tx.Exec(ctx, "SELECT count(ticks.insert_event(e.topic, e.payload)) FROM unnest($1::text[], $2::jsonb[]) e (topic, payload)", topics, payloads)
	return err
}

func (*method) Fill(ctx context.Context, conn *pgx.Conn, n int) error {
	const insert = `SELECT count(ticks.insert_event($4, jsonb_build_object('n', i, 'pad', repeat('x', $3 - 15 - length(i::text)))))
		FROM generate_series($1::bigint, $2) i`
	for from, transactions := 1, 1; from <= n; from, transactions = from+fillRows, transactions+1 {
		_, err := conn.Exec(ctx, insert, from, min(from+fillRows-1, n), system.PayloadBytes, fillTopic)
		if err == nil && transactions%fillTicks == 0 {
			_, err = conn.Exec(ctx, "SELECT ticks.tick()")
		}
		if err != nil {
			return fmt.Errorf("fill the tables of events: %w", err)
		}
	}
	return nil
}

func (m *method) Start(ctx context.Context, p system.Place) (system.Process, error) {
	if !m.Supports(p.To) {
		return nil, errors.New("start " + m.Name() + ": it does not deliver there")
	}
	order, err := json.Marshal(consumeOrder{Database: p.Database, NATS: p.To.NATS})
	if err != nil {
		return nil, err
	}
	return child.Start(ctx, child.Spec{
		Name: m.Name(), Cmd: child.Command(context.WithoutCancel(ctx), childName, string(order)),
		Log: filepath.Join(p.Dir, "consumer.log"), AwaitReady: true,
	})
}
