package bare

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/bench/bridge"
	"github.com/postrider/postrider/bench/child"
)

// sink takes messages. What it is handed is valid during the call alone.
type sink interface {
	put(ctx context.Context, id, payload []byte) error
	// close waits until what is under way is delivered.
	close() error
}

// pipe is what the child does.
func pipe(asked context.Context, text string) (err error) {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(asked)
	defer fail(nil)
	var s sink
	switch {
	case o.Batches:
		s, err = newBatches(o.To.NATS, o.subjects(), fail)
	case o.To.NATS != "":
		s, err = newPublisher(o.To.NATS, o.subjects(), fail)
	case o.To.Bridge.Kind != "":
		s, err = newLoop(ctx, o, fail)
	case o.Raw:
		s, err = newPoster(ctx, o.To.Webhook, fail)
	default:
		s = newClient(ctx, o.http(), fail)
	}
	if err != nil {
		return err
	}
	wal, err := newStream(ctx, o.Database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wal.close()) }()
	child.Ready()
	err = scan(ctx, o.Database, s)
	if err == nil {
		err = wal.run(ctx, s)
	}
	if asked.Err() != nil {
		return s.close()
	}
	return errors.Join(context.Cause(ctx), err)
}

// loop is a sink around the library of another kind of destination.
type loop struct{ *bridge.Loop }

func newLoop(ctx context.Context, o order, fail context.CancelCauseFunc) (sink, error) {
	l, err := bridge.NewLoop(ctx, o.To.Bridge, o.Whole, fail)
	if err != nil {
		return nil, err
	}
	return loop{l}, nil
}

func (l loop) put(ctx context.Context, id, payload []byte) error { return l.Put(ctx, id, payload) }
func (l loop) close() error                                      { return l.Close() }

// page is the number of rows that are asked for at once.
const page = 20_000

// scan puts all rows, in the order of their keys, until there are no more.
func scan(ctx context.Context, database string, s sink) error {
	conn, err := pgconn.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const sql = "SELECT id, payload FROM plain WHERE id > $1 ORDER BY id LIMIT $2"
	if _, err := conn.Prepare(ctx, "page", sql, nil); err != nil {
		return err
	}
	limit := []byte(strconv.Itoa(page))
	for last, n := int64(0), page; n == page; {
		after := []byte(strconv.FormatInt(last, 10))
		if n, last, err = onePage(ctx, conn, after, limit, s); err != nil {
			return fmt.Errorf("scan: %w", err)
		}
	}
	return nil
}

// binaryFormat asks for all columns in binary.
var binaryFormat = []int16{1}

func onePage(ctx context.Context, conn *pgconn.PgConn, after, limit []byte, s sink) (n int, last int64, err error) {
	rows := conn.ExecPrepared(ctx, "page", [][]byte{after, limit}, nil, binaryFormat)
	var id [20]byte
	for rows.NextRow() {
		values := rows.Values()
		last = int64(binary.BigEndian.Uint64(values[0]))
		// jsonb in binary is a version, 1, and then text.
		if err := s.put(ctx, strconv.AppendInt(id[:0], last, 10), values[1][1:]); err != nil {
			_, _ = rows.Close() // the first error counts
			return n, last, err
		}
		n++
	}
	_, err = rows.Close()
	return n, last, err
}
