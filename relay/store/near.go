package store

import (
	"strconv"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// Most of what a look at the table costs is to begin its scans, one for each of two branches and sixteen segments. One branch is enough where
// little lies between the transactions that were running at the window's start and its end: then a single scan of each segment begins at the
// lowest of them, and passes what the start sees.
const (
	nearIDs  = 64 // transactions that it may pass,
	nearRows = 32 // of windows that had no more rows each
)

var nearWindowRows = newReading("postrider_window_near", readColumns, `FROM (
	SELECT `+message.ColumnList+` FROM postrider.outbox WHERE xid >= $1::text::xid8 AND NOT pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
	LIMIT `+strconv.Itoa(MaxWindow+1)+`) w ORDER BY id`)

func nearWindowArgs(a snapshot.Snapshot) [][]byte {
	return [][]byte{strconv.AppendUint(nil, a.Xmin(), 10), []byte(a.String())}
}

// nearness knows what a scan would pass, as far as windows were read one after the other. It is pure.
type nearness struct {
	last snapshot.Snapshot // where the last window ended
	few  uint64            // from this transaction on, each window had few rows
}

// passesLittle says whether a scan from the lowest transaction that base does not see passes few rows that base sees.
func (n *nearness) passesLittle(base snapshot.Snapshot) bool {
	if !base.Equal(n.last) {
		n.few = base.Xmax // whoever has read the window before base, its rows were not counted here
	}
	return base.Xmin() >= n.few && base.Xmax-base.Xmin() <= nearIDs
}

// read takes in a window: where it ended, and how many rows it had.
func (n *nearness) read(to snapshot.Snapshot, rows int) {
	n.last = to
	if rows > nearRows {
		n.few = to.Xmax
	}
}
