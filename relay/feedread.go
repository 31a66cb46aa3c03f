package relay

import (
	"context"
	"encoding/binary"
	"strconv"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

const maxWindowRows = 10_000

var (
	windowStatement = newReading("postrider_window", readColumns, `FROM (
		SELECT `+message.ColumnList+fromXmax+` UNION ALL SELECT `+message.ColumnList+fromXip+` LIMIT `+strconv.Itoa(maxWindowRows+1)+`
		) w ORDER BY id`)
	countStatement = statement{"postrider_count", `SELECT xid, count(*) FROM (
		SELECT xid` + fromXmax + ` UNION ALL SELECT xid` + fromXip + `) w GROUP BY xid`}
	windowTopics = statement{"postrider_window_topics", `SELECT DISTINCT topic FROM (
		SELECT topic, xid` + fromXmax + ` UNION ALL SELECT topic, xid` + fromXip + `) w
		WHERE pg_visible_in_snapshot(xid, $3::text::pg_snapshot)`}
	transactionRows = newReading("postrider_transactions", readColumns, `FROM (SELECT `+message.ColumnList+` FROM postrider.outbox
		WHERE xid = ANY ($1::text::xid8[]) LIMIT `+strconv.Itoa(maxWindowRows+1)+`) w ORDER BY id`)
	transactionTopics = statement{"postrider_transaction_topics", `SELECT DISTINCT topic FROM postrider.outbox WHERE xid = ANY ($1::text::xid8[])`}
)

var useUpID = call{statement: statement{"postrider_use_up_id",
	`SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_xact_id() END`}}

// outboxReader answers the feed's questions on a session.
type outboxReader struct {
	session     *session
	incarnation string
	decoder     *message.Decoder
}

var _ server = (*outboxReader)(nil)

func (o *outboxReader) useUpID(ctx context.Context) error { return o.session.run(ctx, useUpID) }

func (o *outboxReader) look(ctx context.Context) (tick, error) {
	return o.session.look(ctx, o.incarnation)
}

func (o *outboxReader) readWindow(ctx context.Context, base snapshot.Snapshot, heads bool, to *rowSet) (t tick, err error) {
	err = o.session.run(ctx, beginRead, byIndex, tickCall(o.incarnation, &t),
		call{statement: windowStatement.way(heads), args: windowArgs(base), binary: true, row: toRow(o.decoder, to.add)}, commit)
	return t, err
}

func (o *outboxReader) countWindow(ctx context.Context, base snapshot.Snapshot, to map[uint64]int) (t tick, err error) {
	err = o.session.run(ctx, beginRead, byIndex, tickCall(o.incarnation, &t),
		call{statement: countStatement, args: windowArgs(base), binary: true, row: func(values [][]byte) error {
			if len(values[0]) != 8 || len(values[1]) != 8 {
				return message.ErrFormat
			}
			to[binary.BigEndian.Uint64(values[0])] = int(binary.BigEndian.Uint64(values[1]))
			return nil
		}}, commit)
	return t, err
}

func (o *outboxReader) windowTopics(ctx context.Context, base, seen snapshot.Snapshot) ([]string, error) {
	return o.topics(ctx, windowTopics, append(windowArgs(base), []byte(seen.String())))
}

func (o *outboxReader) readTransactions(ctx context.Context, xids []uint64, heads bool, to *rowSet) error {
	return o.session.run(ctx, begin, byIndex,
		call{statement: transactionRows.way(heads), args: xidsArg(xids), binary: true, row: toRow(o.decoder, to.add)}, commit)
}

func (o *outboxReader) transactionTopics(ctx context.Context, xids []uint64) ([]string, error) {
	return o.topics(ctx, transactionTopics, xidsArg(xids))
}

func (o *outboxReader) topics(ctx context.Context, s statement, args [][]byte) (topics []string, err error) {
	err = o.session.run(ctx, begin, byIndex, call{statement: s, args: args, row: func(values [][]byte) error {
		topics = append(topics, string(values[0]))
		return nil
	}}, commit)
	return topics, err
}
