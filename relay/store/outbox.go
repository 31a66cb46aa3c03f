package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

var (
	WindowStatement = newReading("postrider_window", readColumns, `FROM (
		SELECT `+message.ColumnList+fromXmax+` UNION ALL SELECT `+message.ColumnList+fromXip+` LIMIT `+strconv.Itoa(MaxWindow+1)+`
		) w ORDER BY id`)
	CountStatement = Statement{Name: "postrider_count", SQL: `SELECT xid, count(*) FROM (
		SELECT xid` + fromXmax + ` UNION ALL SELECT xid` + fromXip + `) w GROUP BY xid`}
	WindowTopics = Statement{Name: "postrider_window_topics", SQL: `SELECT DISTINCT topic FROM (
		SELECT topic, xid` + fromXmax + ` UNION ALL SELECT topic, xid` + fromXip + `) w
		WHERE pg_visible_in_snapshot(xid, $3::text::pg_snapshot)`}
	TransactionRows = newReading("postrider_transactions", readColumns, `FROM (SELECT `+message.ColumnList+` FROM postrider.outbox
		WHERE xid = ANY ($1::text::xid8[]) LIMIT `+strconv.Itoa(MaxWindow+1)+`) w ORDER BY id`)
	transactionTopics = Statement{Name: "postrider_transaction_topics", SQL: `SELECT DISTINCT topic FROM postrider.outbox WHERE xid = ANY ($1::text::xid8[])`}
)

var useUpID = Call{Statement: Statement{Name: "postrider_use_up_id",
	SQL: `SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_xact_id() END`}}

// OutboxReader answers the feed's questions on a session.
type OutboxReader struct {
	Session     *Session
	Incarnation string
	Decoder     *message.Decoder
}

// UseUpID implements feed.Server.
func (o *OutboxReader) UseUpID(ctx context.Context) error { return o.Session.Run(ctx, useUpID) }

// Look implements feed.Server.
func (o *OutboxReader) Look(ctx context.Context) (snapshot.Snapshot, pglogrepl.LSN, error) {
	t, err := o.Session.Look(ctx, o.Incarnation)
	return t.Snapshot, t.LSN, err
}

// ReadWindow implements feed.Server.
func (o *OutboxReader) ReadWindow(ctx context.Context, base snapshot.Snapshot, heads bool, add func(*message.Row) error) (snapshot.Snapshot, pglogrepl.LSN, error) {
	var t Tick
	err := o.Session.Run(ctx, BeginRead, ByIndex, TickCall(o.Incarnation, &t),
		Call{Statement: WindowStatement.way(heads), Args: WindowArgs(base), Binary: true, Row: ToRow(o.Decoder, add)}, Commit)
	return t.Snapshot, t.LSN, err
}

// CountWindow implements feed.Server.
func (o *OutboxReader) CountWindow(ctx context.Context, base snapshot.Snapshot, counts map[uint64]int) (snapshot.Snapshot, pglogrepl.LSN, error) {
	var t Tick
	err := o.Session.Run(ctx, BeginRead, ByIndex, TickCall(o.Incarnation, &t),
		Call{Statement: CountStatement, Args: WindowArgs(base), Binary: true, Row: func(values [][]byte) error {
			if len(values[0]) != 8 || len(values[1]) != 8 {
				return message.ErrFormat
			}
			counts[binary.BigEndian.Uint64(values[0])] = int(binary.BigEndian.Uint64(values[1]))
			return nil
		}}, Commit)
	return t.Snapshot, t.LSN, err
}

// WindowTopics implements feed.Server.
func (o *OutboxReader) WindowTopics(ctx context.Context, base, seen snapshot.Snapshot) ([]string, error) {
	return o.topics(ctx, WindowTopics, append(WindowArgs(base), []byte(seen.String())))
}

// ReadTransactions implements feed.Server.
func (o *OutboxReader) ReadTransactions(ctx context.Context, xids []uint64, heads bool, add func(*message.Row) error) error {
	return o.Session.Run(ctx, begin, ByIndex,
		Call{Statement: TransactionRows.way(heads), Args: xidsArg(xids), Binary: true, Row: ToRow(o.Decoder, add)}, Commit)
}

// TransactionTopics implements feed.Server.
func (o *OutboxReader) TransactionTopics(ctx context.Context, xids []uint64) ([]string, error) {
	return o.topics(ctx, transactionTopics, xidsArg(xids))
}

// Close implements feed.Server.
func (o *OutboxReader) Close() { o.Session.Close() }

func (o *OutboxReader) topics(ctx context.Context, s Statement, args [][]byte) (topics []string, err error) {
	err = o.Session.Run(ctx, begin, ByIndex, Call{Statement: s, Args: args, Row: func(values [][]byte) error {
		topics = append(topics, string(values[0]))
		return nil
	}}, Commit)
	if err != nil {
		return nil, fmt.Errorf("topics of a large window: %w", err)
	}
	return topics, nil
}
