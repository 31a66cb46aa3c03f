package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

const (
	auditWait   = 100 * time.Millisecond // for a stream that is behind
	slowWindows = 3                      // so many windows in a row that it was too late for, and ticks read the table
)

// audit is a tick that closes: the rows of the window are counted per transaction in the table and compared with what was
// dispatched. A transaction's streamed rows are a subset of its rows in the table, so equal counts are equal sets.
func (f *feed) audit(ctx context.Context) error {
	var t tick
	counts := make(map[uint64]int)
	err := f.session.run(ctx, beginRead, byIndex, tickCall(f.incarnation, &t),
		call{statement: countStatement, args: windowArgs(f.closed), binary: true, row: func(values [][]byte) error {
			if len(values[0]) != 8 || len(values[1]) != 8 {
				return message.ErrFormat
			}
			counts[binary.BigEndian.Uint64(values[0])] = int(binary.BigEndian.Uint64(values[1]))
			return nil
		}}, commit)
	if err != nil {
		return err
	}
	f.metrics.tick("audit")
	took := time.Since(f.closedOn)
	brought, late := f.backlog.Pace()
	left := f.takeVisible(t.snap)
	missing := f.missing(counts)
	if len(missing) > 0 {
		if left, err = f.waitForStream(ctx, &t); err != nil {
			return err
		}
		missing = f.missing(counts)
	}
	if len(missing) > 0 {
		if err := f.complete(ctx, &t, missing); err != nil {
			return err
		}
	} else {
		f.slow = 0
		if time.Since(f.trustFrom) > 10*time.Minute {
			f.distrust = 0
		}
	}
	f.close(t.snap)
	switch {
	case !f.streaming:
	case f.pace.outrun(took, len(counts), brought, late, f.config.busyRate):
		f.endStreaming("the producers outrun the stream")
		async.Signal(f.outrun)
	default:
		f.setDelay(left)
	}
	return nil
}

// missing returns the transactions of which fewer rows were dispatched than the table has.
func (f *feed) missing(counts map[uint64]int) (xids []uint64) {
	had := make(map[uint64]int, len(counts))
	for _, o := range f.open {
		had[o.xid]++
	}
	for xid, n := range counts {
		if had[xid] < n {
			xids = append(xids, xid)
		}
	}
	return xids
}

// waitForStream waits until the stream has passed the tick, but not for long, and dispatches what it brought.
func (f *feed) waitForStream(ctx context.Context, t *tick) (left int, err error) {
	f.backlog.Ask(t.lsn)
	timeout := time.NewTimer(auditWait)
	defer timeout.Stop()
	for {
		if _, gap, passed := f.backlog.State(); gap || passed >= t.lsn {
			return f.takeVisible(t.snap), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-f.backlog.Wake:
		case <-timeout.C:
			return f.takeVisible(t.snap), nil
		}
	}
}

// complete reads the transactions that the stream did not bring from the table, and draws the consequences for the stream.
func (f *feed) complete(ctx context.Context, t *tick, missing []uint64) error {
	found := rowSet{limit: f.config.MemoryLimit / 8}
	args := [][]byte{append(snapshot.AppendIDs([]byte{'{'}, missing), '}')}
	err := f.session.run(ctx, begin, byIndex,
		call{statement: transactionRows.way(f.heads), args: args, binary: true, row: toRow(f.decoder, found.add)}, commit)
	if err != nil {
		return fmt.Errorf("complete a window: %w", f.careful(err))
	}
	f.heads = false
	if found.over {
		if err := f.demote(ctx, transactionTopics, args); err != nil {
			return err
		}
	}
	f.dispatchNew(found.rows)
	f.metrics.completed.Inc()

	_, gap, passed := f.backlog.State()
	f.slow++
	switch {
	case gap:
		f.endStreaming("the stream lost rows")
	case passed >= t.lsn:
		// The stream has a hole, such as a publication that was dropped: trust it again later and later.
		f.distrust = min(max(2*f.distrust, time.Second), time.Minute)
		f.trustFrom = time.Now().Add(f.distrust)
		f.endStreaming("the stream has a hole: is publication postrider as it should be? `postrider doctor` tells")
	case f.slow >= slowWindows:
		f.endStreaming("the stream is behind")
	}
	return nil
}
