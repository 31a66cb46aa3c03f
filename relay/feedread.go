package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

var (
	windowStatement = store.NewReading("postrider_window", store.ReadColumns, `FROM (
		SELECT `+message.ColumnList+store.FromXmax+` UNION ALL SELECT `+message.ColumnList+store.FromXip+` LIMIT `+strconv.Itoa(store.MaxWindow+1)+`
		) w ORDER BY id`)
	countStatement = store.Statement{Name: "postrider_count", SQL: `SELECT xid, count(*) FROM (
		SELECT xid` + store.FromXmax + ` UNION ALL SELECT xid` + store.FromXip + `) w GROUP BY xid`}
	windowTopics = store.Statement{Name: "postrider_window_topics", SQL: `SELECT DISTINCT topic FROM (
		SELECT topic, xid` + store.FromXmax + ` UNION ALL SELECT topic, xid` + store.FromXip + `) w
		WHERE pg_visible_in_snapshot(xid, $3::text::pg_snapshot)`}
	transactionRows = store.NewReading("postrider_transactions", store.ReadColumns, `FROM (SELECT `+message.ColumnList+` FROM postrider.outbox
		WHERE xid = ANY ($1::text::xid8[]) LIMIT `+strconv.Itoa(store.MaxWindow+1)+`) w ORDER BY id`)
	transactionTopics = store.Statement{Name: "postrider_transaction_topics", SQL: `SELECT DISTINCT topic FROM postrider.outbox WHERE xid = ANY ($1::text::xid8[])`}
)

var useUpID = store.Call{Statement: store.Statement{Name: "postrider_use_up_id",
	SQL: `SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_xact_id() END`}}

// outboxReader answers the feed's questions on a session.
type outboxReader struct {
	session     *store.Session
	incarnation string
	decoder     *message.Decoder
}

// UseUpID implements feed.Server.
func (o *outboxReader) UseUpID(ctx context.Context) error { return o.session.Run(ctx, useUpID) }

// Look implements feed.Server.
func (o *outboxReader) Look(ctx context.Context) (snapshot.Snapshot, pglogrepl.LSN, error) {
	t, err := o.session.Look(ctx, o.incarnation)
	return t.Snapshot, t.LSN, err
}

// ReadWindow implements feed.Server.
func (o *outboxReader) ReadWindow(ctx context.Context, base snapshot.Snapshot, heads bool, add func(*message.Row) error) (snapshot.Snapshot, pglogrepl.LSN, error) {
	var t store.Tick
	err := o.session.Run(ctx, store.BeginRead, store.ByIndex, store.TickCall(o.incarnation, &t),
		store.Call{Statement: windowStatement.Way(heads), Args: store.WindowArgs(base), Binary: true, Row: store.ToRow(o.decoder, add)}, store.Commit)
	return t.Snapshot, t.LSN, err
}

// CountWindow implements feed.Server.
func (o *outboxReader) CountWindow(ctx context.Context, base snapshot.Snapshot, counts map[uint64]int) (snapshot.Snapshot, pglogrepl.LSN, error) {
	var t store.Tick
	err := o.session.Run(ctx, store.BeginRead, store.ByIndex, store.TickCall(o.incarnation, &t),
		store.Call{Statement: countStatement, Args: store.WindowArgs(base), Binary: true, Row: func(values [][]byte) error {
			if len(values[0]) != 8 || len(values[1]) != 8 {
				return message.ErrFormat
			}
			counts[binary.BigEndian.Uint64(values[0])] = int(binary.BigEndian.Uint64(values[1]))
			return nil
		}}, store.Commit)
	return t.Snapshot, t.LSN, err
}

// WindowTopics implements feed.Server.
func (o *outboxReader) WindowTopics(ctx context.Context, base, seen snapshot.Snapshot) ([]string, error) {
	return o.topics(ctx, windowTopics, append(store.WindowArgs(base), []byte(seen.String())))
}

// ReadTransactions implements feed.Server.
func (o *outboxReader) ReadTransactions(ctx context.Context, xids []uint64, heads bool, add func(*message.Row) error) error {
	return o.session.Run(ctx, store.Begin, store.ByIndex,
		store.Call{Statement: transactionRows.Way(heads), Args: store.XidsArg(xids), Binary: true, Row: store.ToRow(o.decoder, add)}, store.Commit)
}

// TransactionTopics implements feed.Server.
func (o *outboxReader) TransactionTopics(ctx context.Context, xids []uint64) ([]string, error) {
	return o.topics(ctx, transactionTopics, store.XidsArg(xids))
}

// Close implements feed.Server.
func (o *outboxReader) Close() { o.session.Close() }

func (o *outboxReader) topics(ctx context.Context, s store.Statement, args [][]byte) (topics []string, err error) {
	err = o.session.Run(ctx, store.Begin, store.ByIndex, store.Call{Statement: s, Args: args, Row: func(values [][]byte) error {
		topics = append(topics, string(values[0]))
		return nil
	}}, store.Commit)
	if err != nil {
		return nil, fmt.Errorf("topics of a large window: %w", err)
	}
	return topics, nil
}
