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
	windowRows = newReading("postrider_window", readColumns, `FROM (
		SELECT `+message.ColumnList+fromXmax+` UNION ALL SELECT `+message.ColumnList+fromXip+` LIMIT `+strconv.Itoa(MaxWindow+1)+`
		) w ORDER BY id`)
	countWindow = statement{name: "postrider_count", sql: `SELECT xid, count(*) FROM (
		SELECT xid` + fromXmax + ` UNION ALL SELECT xid` + fromXip + `) w GROUP BY xid`}
	windowTopics = statement{name: "postrider_window_topics", sql: `SELECT DISTINCT topic FROM (
		SELECT topic, xid` + fromXmax + ` UNION ALL SELECT topic, xid` + fromXip + `) w
		WHERE pg_visible_in_snapshot(xid, $3::text::pg_snapshot)`}
	transactionRows = newReading("postrider_transactions", readColumns, `FROM (SELECT `+message.ColumnList+` FROM postrider.outbox
		WHERE xid = ANY ($1::text::xid8[]) LIMIT `+strconv.Itoa(MaxWindow+1)+`) w ORDER BY id`)
	transactionTopics = statement{name: "postrider_transaction_topics", sql: `SELECT DISTINCT topic FROM postrider.outbox WHERE xid = ANY ($1::text::xid8[])`}
)

var useUpID = call{statement: statement{name: "postrider_use_up_id",
	sql: `SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_xact_id() END`}}

// OutboxReader answers the feed's questions on a session.
type OutboxReader struct {
	Session     *Session
	Incarnation string
	Decoder     *message.Decoder

	near nearness
}

// UseUpID implements feed.Server.
func (o *OutboxReader) UseUpID(ctx context.Context) error { return o.Session.run(ctx, useUpID) }

// Tick implements feed.Server.
func (o *OutboxReader) Tick(ctx context.Context) (snapshot.Snapshot, pglogrepl.LSN, error) {
	t, err := o.Session.tick(ctx, o.Incarnation)
	return t.snapshot, t.lsn, err
}

// ReadWindow implements feed.Server.
func (o *OutboxReader) ReadWindow(ctx context.Context, base snapshot.Snapshot, heads bool, add func(*message.Row) error) (snapshot.Snapshot, pglogrepl.LSN, error) {
	var t tick
	statement, args := windowRows.way(heads), windowArgs
	if o.near.passesLittle(base) {
		statement, args = nearWindowRows.way(heads), nearWindowArgs
	}
	rows := 0
	err := o.Session.run(ctx, beginRead, byIndex, tickCall(o.Incarnation, &t), call{statement: statement, args: args(base), binary: true,
		row: toRow(o.Decoder, func(r *message.Row) error { rows++; return add(r) })}, commit)
	if err == nil {
		o.near.read(t.snapshot, rows)
	}
	return t.snapshot, t.lsn, err
}

// CountWindow implements feed.Server.
func (o *OutboxReader) CountWindow(ctx context.Context, base snapshot.Snapshot, counts map[uint64]int) (snapshot.Snapshot, pglogrepl.LSN, error) {
	var t tick
	err := o.Session.run(ctx, beginRead, byIndex, tickCall(o.Incarnation, &t),
		call{statement: countWindow, args: windowArgs(base), binary: true, row: func(values [][]byte) error {
			if len(values[0]) != 8 || len(values[1]) != 8 {
				return message.ErrFormat
			}
			counts[binary.BigEndian.Uint64(values[0])] = int(binary.BigEndian.Uint64(values[1]))
			return nil
		}}, commit)
	return t.snapshot, t.lsn, err
}

// WindowTopics implements feed.Server.
func (o *OutboxReader) WindowTopics(ctx context.Context, base, seen snapshot.Snapshot) ([]string, error) {
	return o.topics(ctx, windowTopics, append(windowArgs(base), []byte(seen.String())))
}

// ReadTransactions implements feed.Server.
func (o *OutboxReader) ReadTransactions(ctx context.Context, xids []uint64, heads bool, add func(*message.Row) error) error {
	return o.Session.run(ctx, begin, byIndex,
		call{statement: transactionRows.way(heads), args: xidsArg(xids), binary: true, row: toRow(o.Decoder, add)}, commit)
}

// TransactionTopics implements feed.Server.
func (o *OutboxReader) TransactionTopics(ctx context.Context, xids []uint64) ([]string, error) {
	return o.topics(ctx, transactionTopics, xidsArg(xids))
}

// close implements feed.Server.
func (o *OutboxReader) Close() { o.Session.close() }

func (o *OutboxReader) topics(ctx context.Context, s statement, args [][]byte) (topics []string, err error) {
	err = o.Session.run(ctx, begin, byIndex, call{statement: s, args: args, row: func(values [][]byte) error {
		topics = append(topics, string(values[0]))
		return nil
	}}, commit)
	if err != nil {
		return nil, fmt.Errorf("topics of a large window: %w", err)
	}
	return topics, nil
}
