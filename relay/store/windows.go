package store

import (
	"strconv"

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

// MaxWindow bounds the rows of a window that are read together; who reads them reads one more, to tell that there are more.
const MaxWindow = 10_000

func windowArgs(a snapshot.Snapshot) [][]byte {
	return [][]byte{strconv.AppendUint(nil, a.Xmax, 10), a.XipArray()}
}

func xidsArg(xids []uint64) [][]byte {
	return [][]byte{append(snapshot.AppendIDs([]byte{'{'}, xids), '}')}
}
