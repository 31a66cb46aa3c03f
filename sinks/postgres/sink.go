package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postrider/postrider/sinks"
)

const (
	defaultLanes = 2
	defaultBatch = 500
	conflicts    = 3 // attempts at a transaction that others get in the way of
)

// sink delivers to one table or function.
type sink struct {
	*dialer
	pool      *pgxpool.Pool
	statement string
	limits    sinks.Limits
}

var _ sinks.Sink = (*sink)(nil)

func newSink(ctx context.Context, t sinks.Target, with sinks.Surroundings) (*sink, error) {
	c, err := parse(t)
	if err != nil {
		return nil, err
	}
	s := &sink{limits: sinks.Limits{Lanes: defaultLanes, Batch: defaultBatch}}
	if t.Lanes > 0 {
		s.limits.Lanes = t.Lanes
	}
	if t.Batch > 0 {
		s.limits.Batch = t.Batch
	}
	if s.dialer, err = newDialer(c, with.Log, with.Secrets); err != nil {
		return nil, err
	}
	s.meter = with.Meter
	settings, err := s.settings()
	if err != nil {
		return nil, err
	}
	settings.MaxConns = int32(min(s.limits.Lanes, 1000))
	s.statement = s.sql()
	if s.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), settings); err != nil {
		return nil, fmt.Errorf("connections: %w", err)
	}
	return s, nil
}

// Limits implements sinks.Sink.
func (s *sink) Limits() sinks.Limits { return s.limits }

// Close implements sinks.Sink.
func (s *sink) Close() error {
	s.pool.Close()
	return nil
}

// Deliver implements sinks.Sink.
func (s *sink) Deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.deliver(ctx, batch, outcomes)
	for i, err := range outcomes {
		outcomes[i] = sinks.RedactOutcome(&s.secrets.Redactor, err)
	}
}

// deliver delivers what can be sent.
func (s *sink) deliver(ctx context.Context, batch []sinks.Delivery, outcomes []error) {
	if list, at := s.admissible(batch, outcomes); len(list) > 0 {
		s.deliverAll(ctx, list, at, outcomes)
	}
}

// deliverAll delivers all in one transaction or, where one of them is to blame, each half by itself: a few bad ones among many cost a few
// transactions.
func (s *sink) deliverAll(ctx context.Context, list []row, at []int, outcomes []error) {
	err := s.write(ctx, list)
	switch half := len(list) / 2; {
	case err == nil:
	case half > 0 && faultOf(err) >= ofConflict:
		s.deliverAll(ctx, list[:half], at[:half], outcomes)
		s.deliverAll(ctx, list[half:], at[half:], outcomes)
	default:
		for _, i := range at {
			outcomes[i] = s.outcomeOf(err)
		}
	}
}

// admissible returns what can be sent, with its places in the batch, and sets the outcomes of the rest.
func (s *sink) admissible(batch []sinks.Delivery, outcomes []error) (list []row, at []int) {
	for i := range batch {
		r, err := s.row(batch[i].Message)
		if err != nil {
			outcomes[i] = sinks.Permanent(err)
			continue
		}
		list, at = append(list, r), append(at, i)
	}
	return list, at
}

// write writes rows in one transaction.
func (s *sink) write(ctx context.Context, list []row) (err error) {
	for range conflicts {
		if err = s.writeOnce(ctx, list); err == nil || faultOf(err) != ofConflict {
			return err
		}
	}
	return err
}

func (s *sink) writeOnce(ctx context.Context, list []row) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		s.meter.Connected(err)
		return err
	}
	defer conn.Release()
	values := s.args(list)
	var batch pgconn.Batch
	batch.ExecParams("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", nil, nil, nil, nil)
	batch.ExecParams(s.statement, values, nil, formats, nil)
	batch.ExecParams("COMMIT", nil, nil, nil, nil)
	results := conn.Conn().PgConn().ExecBatch(ctx, &batch)
	var failed error
	for results.NextResult() {
		tag, err := results.ResultReader().Close()
		if err == nil && tag.String() == "ROLLBACK" {
			err = pgx.ErrTxCommitRollback
		}
		if failed == nil {
			failed = err
		}
	}
	if err := results.Close(); failed == nil {
		failed = err
	}
	if failed != nil && !conn.Conn().IsClosed() {
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return errors.Join(failed, err)
		}
	}
	return failed
}

// row is a message as it is written.
type row struct {
	*sinks.Message
	headers string
	made    int64 // when it was made, in microseconds since 1970, as its id has it
}

// hops is the header in which a message of an outbox carries how many databases it has come through.
const (
	hops     = "postrider-hops"
	mostHops = 16
)

// row returns the message as it is written. Into another outbox it goes with the number of those that it has come through.
func (s *sink) row(m *sinks.Message) (row, error) {
	made, err := madeAt(m.MessageID)
	if err != nil {
		return row{}, err
	}
	r := row{m, string(m.Headers), made}
	headers, err := m.HeaderMap()
	if err != nil || !s.toOutbox() {
		return r, err
	}
	if headers == nil {
		headers = make(map[string]string, 1)
	}
	n := 0
	if text, ok := headers[hops]; ok {
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return r, fmt.Errorf("header %s is %q: it must be a number", hops, text)
		}
	}
	if n >= mostHops {
		return r, fmt.Errorf("it has come through %d databases: two outboxes feed each other", n)
	}
	headers[hops] = strconv.Itoa(n + 1)
	r.headers, err = marshalHeaders(headers)
	return r, err
}

// madeAt is the time at the end of a message id. The inbox reads it, too, by a function that takes as long as all else that it does.
func madeAt(id string) (int64, error) {
	_, digits, found := strings.Cut(id, "-")
	digits = digits[strings.LastIndexByte(digits, '-')+1:]
	made, err := strconv.ParseUint(digits, 10, 63)
	if !found || err != nil || len(digits) < 15 || len(digits) > 16 {
		return 0, fmt.Errorf("the message id %q does not end with a time, as in 5eed0123-42-1767349445678900", id)
	}
	return int64(made), nil
}
