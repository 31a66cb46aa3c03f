package pgq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/postrider/postrider/bench/child"
	"github.com/postrider/postrider/bench/system/bare"
)

const (
	childName = "pgq"
	rest      = time.Millisecond // when there is no batch
	turns     = 10 * time.Second // of the three tables
)

func init() {
	child.Register(childName, func(args []string) {
		ctx, cancel := child.Context()
		defer cancel()
		child.Fatal(consume(ctx, args))
	})
}

// consumeOrder is what the bench tells the consumer's process.
type consumeOrder struct{ Database, NATS string }

// consumer works batches off, one after the other.
type consumer struct {
	conn    *pgx.Conn
	to      *bare.Publisher
	rotated time.Time
}

// consume consumes until asked ends.
func consume(asked context.Context, args []string) (err error) {
	if len(args) != 1 {
		return fmt.Errorf("consume: %d arguments instead of 1", len(args))
	}
	var o consumeOrder
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	ctx, fail := context.WithCancelCause(context.WithoutCancel(asked))
	defer fail(nil)
	c := &consumer{rotated: time.Now()}
	if c.conn, err = pgx.Connect(ctx, o.Database); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.conn.Close(context.WithoutCancel(ctx))) }()
	if c.to, err = bare.NewPublisher(o.NATS, fail); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.to.Close()) }()
	child.Ready()
	for asked.Err() == nil {
		more, err := c.step(ctx)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if !more {
			select {
			case <-asked.Done():
			case <-time.After(rest):
			}
		}
	}
	return nil
}

// step takes a batch, if there is one.
func (c *consumer) step(ctx context.Context) (more bool, err error) {
	if time.Since(c.rotated) > turns {
		c.rotated = time.Now()
		if _, err := c.conn.Exec(ctx, "SELECT ticks.rotate($1)", turns); err != nil {
			return false, fmt.Errorf("let the tables take turns: %w", err)
		}
	}
	b, err := c.next(ctx)
	if err != nil || b == nil {
		return false, err
	}
	if err := c.publish(ctx, b); err != nil {
		return false, err
	}
	if _, err := c.conn.Exec(ctx, "UPDATE ticks.consumer SET last = $1 WHERE name = 'bench'", b.tick); err != nil {
		return false, fmt.Errorf("finish a batch: %w", err)
	}
	return true, nil
}

// batch is what came between two ticks.
type batch struct {
	tick           int64 // the later one
	from, to, open string
}

// nextBatch finds the first tick after that of the consumer, and what bounds the transactions between them.
const nextBatch = `SELECT n.id, b.snapshot::text, n.snapshot::text, ARRAY(
		SELECT pg_snapshot_xip(b.snapshot) EXCEPT SELECT pg_snapshot_xip(n.snapshot))::text
	FROM ticks.consumer c JOIN ticks.tick b ON b.id = c.last JOIN ticks.tick n ON n.id = (SELECT min(t.id) FROM ticks.tick t WHERE t.id > c.last)
	WHERE c.name = 'bench'`

// next asks for a tick, and then for a batch. nil: there is none.
func (c *consumer) next(ctx context.Context) (*batch, error) {
	var b batch
	for range 2 {
		err := c.conn.QueryRow(ctx, nextBatch).Scan(&b.tick, &b.from, &b.to, &b.open)
		if err == nil {
			return &b, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("ask for a batch: %w", err)
		}
		if _, err := c.conn.Exec(ctx, "SELECT ticks.tick()"); err != nil {
			return nil, fmt.Errorf("ask for a tick: %w", err)
		}
	}
	return nil, nil
}

// events are those of a batch: of transactions that began between the two snapshots, and of those that the first one had running.
var events = fmt.Sprintf(`SELECT id, topic, payload FROM (%s UNION ALL %s UNION ALL %s) e ORDER BY id`, eventsOf(0), eventsOf(1), eventsOf(2))

func eventsOf(table int) string {
	return fmt.Sprintf(`SELECT id, topic, payload FROM ticks.event_%d WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot) AND xid < pg_snapshot_xmax($2::text::pg_snapshot)
			AND pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
		UNION ALL SELECT id, topic, payload FROM ticks.event_%[1]d WHERE xid = ANY ($3::text::xid8[])`, table)
}

// publish delivers the events of a batch, and returns once all of them are stored.
func (c *consumer) publish(ctx context.Context, b *batch) error {
	rows, err := c.conn.Query(ctx, events, b.from, b.to, b.open)
	if err != nil {
		return fmt.Errorf("read a batch: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var topic string
		var payload pgtype.PreallocBytes
		if err := rows.Scan(&id, &topic, &payload); err != nil {
			return fmt.Errorf("read a batch: %w", err)
		}
		if err := c.to.Put(ctx, topic, strconv.FormatInt(id, 10), payload); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read a batch: %w", err)
	}
	return c.to.Settle(ctx)
}
