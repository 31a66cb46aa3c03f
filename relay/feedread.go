package relay

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// A window's rows are those of transactions at or past its start's xmax, and those that were running then and are no longer:
// two branches, so that an old open transaction costs nothing. No test of visibility is needed: a statement sees a row exactly
// if its snapshot sees the row's transaction.
const (
	fromXmax = ` FROM postrider.outbox WHERE xid >= $1::text::xid8`
	fromXip  = ` FROM postrider.outbox WHERE xid = ANY (ARRAY(
		SELECT unnest($2::text::xid8[]) EXCEPT SELECT pg_snapshot_xip(pg_current_snapshot())))`
)

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

func windowArgs(a snapshot.Snapshot) [][]byte {
	return [][]byte{strconv.AppendUint(nil, a.Xmax, 10), a.XipArray()}
}

// useUpID ends a transaction that has an id. A snapshot taken later lists all transactions with lower ids that have not ended, also
// the newest, which else, while its commit waits for a standby, lies past the snapshot's xmax: the gap rule would not see it.
var useUpID = call{statement: statement{"postrider_use_up_id",
	`SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_xact_id() END`}}

// rowSet collects rows up to the bounds on a window.
type rowSet struct {
	rows  []*message.Row
	bytes int64
	limit int64
	over  bool
}

// count returns the number of rows, and about that of their transactions.
func (s *rowSet) count() (rows int, transactions int64) {
	if s.over {
		return maxWindowRows, maxWindowRows
	}
	for i, r := range s.rows {
		if i == 0 || r.XID != s.rows[i-1].XID {
			transactions++
		}
	}
	return len(s.rows), transactions
}

func (s *rowSet) add(r *message.Row) error {
	s.bytes += r.Arrived()
	if s.over || len(s.rows) >= maxWindowRows || s.bytes > s.limit {
		s.over, s.rows = true, nil
		if s.bytes > s.limit+message.MaxOverflow {
			return errOverflow
		}
		return nil
	}
	s.rows = append(s.rows, r)
	return nil
}

// read is a tick of the table: one look returns a snapshot and the rows of the window, which it closes.
func (f *feed) read(ctx context.Context) error {
	connected, gap, _ := f.backlog.State()
	if connected && gap && !time.Now().Before(f.trustFrom) {
		f.backlog.Restart() // before the snapshot is taken: what commits after it is held
		f.mark = nil
		if err := f.session.run(ctx, useUpID); err != nil {
			return err
		}
	}
	var t tick
	found := rowSet{limit: f.config.MemoryLimit / 8}
	began := time.Now()
	err := f.session.run(ctx, beginRead, byIndex, tickCall(f.incarnation, &t),
		call{statement: windowStatement.way(f.heads), args: windowArgs(f.closed), binary: true, row: toRow(f.decoder, found.add)}, commit)
	if err != nil {
		return f.careful(err)
	}
	f.heads = false
	f.metrics.tick("table")
	f.backlog.Take(t.snap, nil)
	if found.over {
		args := append(windowArgs(f.closed), []byte(t.snap.String()))
		if err := f.demote(ctx, windowTopics, args); err != nil {
			return err
		}
	}
	n, transactions := found.count()
	f.fromTable.Add(transactions)
	f.dispatchNew(found.rows)
	f.close(t.snap)
	f.adaptDelay(n, time.Since(began))
	f.judgeStream(&t)
	return nil
}

// dispatchNew hands out rows that were not dispatched since the last close.
func (f *feed) dispatchNew(rows []*message.Row) {
	had := make(map[opened]bool, len(f.open))
	for _, o := range f.open {
		had[o] = true
	}
	f.dispatch(slices.DeleteFunc(rows, func(r *message.Row) bool { return had[opened{r.XID, r.Ident()}] }))
}

const (
	restRows = 16                    // ticks that find so many rows rest as long as they take, those that find more rest longer,
	restMost = 12                    // up to so many times as long,
	restMax  = 20 * time.Millisecond // but not longer than this
)

// adaptDelay ticks fast while there is traffic, less often where each tick has much to do anyway, and slower and slower while there is
// none.
func (f *feed) adaptDelay(found int, took time.Duration) {
	if found > 0 {
		rest := time.Duration(min(found, restMost*restRows)) * took / restRows
		f.delay = max(f.config.PollMin, min(rest, restMax))
		return
	}
	f.delay = min(max(f.delay*3/2, f.config.PollMin), f.config.PollMax)
}

// judgeStream applies the gap rule: the stream may carry the rows once every transaction that ran at the first tick after the
// gap has ended and the stream has passed that tick. Else it could hand out a message before an older one that it never saw.
func (f *feed) judgeStream(t *tick) {
	connected, gap, passed := f.backlog.State()
	switch {
	case !connected || gap:
		f.mark = nil
	case f.mark == nil:
		f.mark = t
		f.backlog.Ask(f.mark.lsn)
	case t.snap.Xmin() < f.mark.snap.Xmax:
	case passed < f.mark.lsn:
		f.backlog.Ask(f.mark.lsn)
	default:
		f.log.Info("feed: following the stream")
		f.streaming, f.mark, f.slow = true, nil, 0
		f.delay = 0
	}
}

// demote sends the live runners with a match back to the table: the window is too large to hold.
func (f *feed) demote(ctx context.Context, s statement, args [][]byte) error {
	var topics []string
	err := f.session.run(ctx, begin, byIndex, call{statement: s, args: args, row: func(values [][]byte) error {
		topics = append(topics, string(values[0]))
		return nil
	}}, commit)
	if err != nil {
		return fmt.Errorf("topics of a large window: %w", err)
	}
	for _, topic := range topics {
		for _, q := range f.route(topic) {
			q.refuse(f.win)
		}
	}
	return nil
}
