package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/message"
)

// ErrLost says that the relay's own row is gone: snapshots in memory may be void, and another relay may own the cursors.
var ErrLost = errors.New("this relay's registration is gone: the server crashed, was failed over, or another relay took over")

// OnStandby makes errLost of what a server in recovery says to a look at postrider.relays: unlogged tables cannot be read there,
// whatever the query asks besides.
func OnStandby(err error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "0A000" { // feature_not_supported
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// Session runs the engine's hot statements on one connection, several per round trip, rows in binary.
type Session struct {
	conn    *pgx.Conn
	prepare bool
	pooled  bool // the session is somebody else's in the next transaction

	// The encoded request of a tick, and what stops watching its context.
	request []byte
	unwatch func() bool
}

// NewSession uses prepared statements unless the connection string asks for a mode that avoids them, as poolers need.
func NewSession(conn *pgx.Conn) *Session {
	conn.PgConn().Frontend().SetMaxBodyLen(message.MaxOverflow)
	return &Session{conn: conn, prepare: dbconn.Prepares(conn.Config()), pooled: dbconn.Pooled(conn.PgConn())}
}

// statement is an SQL text with a name to prepare it by.
type statement struct{ name, sql string }

// call is a statement with its parameters in text format, and what to do with each row; the values of a row are valid only
// during the call of row.
type call struct {
	statement
	args   [][]byte
	binary bool // results in binary format
	row    func(values [][]byte) error
}

var (
	begin        = call{statement: statement{sql: dbconn.Begin}}
	beginStandby = call{statement: statement{sql: "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}}
	beginRead    = call{statement: statement{sql: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}}
	// For this transaction, since behind a pooler the session is somebody else's. Plans are generic, so that none is made per
	// call; one that was made while the table was empty is kept while it fills, so it must not read all of it; and estimates for
	// many partitions make compilation look worth its while, which it never is.
	byIndex = call{statement: statement{"postrider_by_index", ownLimits + ", " + setLocal("plan_cache_mode", "force_generic_plan", "jit", "off", "enable_seqscan", "off")}}
	// Pages walk the primary keys of the segments side by side, in order of id: no plan with a sort is worth its start.
	inOrder = call{statement: statement{"postrider_in_order", ownLimits + ", " + setLocal("plan_cache_mode", "force_generic_plan", "jit", "off",
		"enable_seqscan", "off", "enable_bitmapscan", "off", "enable_sort", "off")}}
	localCommit = call{statement: statement{sql: "SET LOCAL synchronous_commit = local"}}
	commit      = call{statement: statement{sql: "COMMIT"}}
	limited     = call{statement: statement{"postrider_limited", ownLimits}}
)

// pinned makes the calls one pinned transaction, if they are not one yet.
func pinned(calls []call) []call {
	var pins []call
	for _, sql := range dbconn.Pins {
		pins = append(pins, call{statement: statement{sql: sql}})
	}
	if len(calls) > 0 && strings.HasPrefix(calls[0].sql, "BEGIN") {
		return slices.Insert(slices.Clone(calls), 1, pins...)
	}
	return slices.Concat([]call{begin}, pins, calls, []call{commit})
}

// ownLimits are the limits of our transactions. What waits for a lock says so soon; what takes longer than the other limit is tried
// again in smaller pieces.
var ownLimits = "SELECT " + setLocal("statement_timeout", "30s", "lock_timeout", "5s")

// setLocal sets several settings in one statement.
func setLocal(settings ...string) string {
	var calls []string
	for i := 0; i < len(settings); i += 2 {
		calls = append(calls, fmt.Sprintf("set_config('%s', '%s', true)", settings[i], settings[i+1]))
	}
	return strings.Join(calls, ", ")
}

// run executes the calls in one round trip. After an error the session must not be used again.
func (s *Session) run(ctx context.Context, calls ...call) error {
	if s.pooled {
		calls = pinned(calls)
	}
	batch := &pgconn.Batch{}
	for _, c := range calls {
		format := []int16{0}
		if c.binary {
			format[0] = 1
		}
		if !s.prepare || c.name == "" {
			batch.ExecParams(c.sql, c.args, nil, nil, format)
			continue
		}
		if _, err := s.conn.Prepare(ctx, c.name, c.sql); err != nil { // once per connection
			return fmt.Errorf("prepare %s: %w", c.name, err)
		}
		batch.ExecPrepared(c.name, c.args, nil, format)
	}
	results := s.conn.PgConn().ExecBatch(ctx, batch)
	err := s.readResults(results, calls)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return OnStandby(err)
}

func (s *Session) readResults(results *pgconn.MultiResultReader, calls []call) error {
	for i := 0; i < len(calls) && results.NextResult(); i++ {
		reader := results.ResultReader()
		var err error
		for reader.NextRow() {
			if calls[i].row != nil && err == nil {
				err = calls[i].row(reader.Values())
			}
			if errors.Is(err, ErrOverflow) {
				s.conn.PgConn().Conn().Close() // nothing else ends a query at once
				return err
			}
		}
		if _, closeErr := reader.Close(); closeErr != nil {
			return closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) close() {
	if s.unwatch != nil {
		s.unwatch()
	}
	dbconn.Close(s.conn.PgConn())
}

var mineStatement = statement{"postrider_mine", `SELECT EXISTS (SELECT FROM postrider.relays WHERE incarnation = $1::text::uuid)
	AND NOT pg_is_in_recovery() AND EXISTS (SELECT FROM postrider.cursors
		WHERE subscription = $2::text AND shard = $3::text::smallint AND epoch = $4::text::bigint AND owner = $1::text::uuid)`}

// mineCall fails with errLost unless the part is the relay's, which it is with all its classes. After a read in the same transaction it shows that what was read
// is still the relay's to draw conclusions from: a row that another owner parked, or that a failover lost, looks like one that
// is settled.
func mineCall(o Owned) call {
	return call{statement: mineStatement, args: o.args(), row: func(values [][]byte) error {
		if string(values[0]) != "t" {
			return ErrLost
		}
		return nil
	}}
}

func (o *Owned) args() [][]byte {
	return [][]byte{[]byte(o.Incarnation), []byte(o.Subscription), strconv.AppendInt(nil, int64(o.Shard), 10), strconv.AppendInt(nil, o.Epoch, 10)}
}

// toRow adapts a function on decoded rows to a call.
func toRow(d *message.Decoder, f func(*message.Row) error) func([][]byte) error {
	return func(values [][]byte) error {
		r, err := d.DecodeRead((*[len(message.Columns)][]byte)(values))
		if err != nil {
			return err
		}
		return f(r)
	}
}
