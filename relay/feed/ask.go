package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
)

// question is a kind of thing that the core wants to know.
type question uint8

const (
	askNothing           question = iota // the tick has ended: wait for the next
	askTick                              // a snapshot and the position of the log
	askWindow                            // both, and the rows past base
	askCounts                            // both, and the number of rows past base, by transaction
	askWindowTopics                      // the topics of the rows past base that seen shows
	askTransactions                      // the rows of transactions
	askTransactionTopics                 // their topics
	askStream                            // nothing of the server: wait until the stream has brought something
)

// Ask is what the feed wants to know next.
type Ask struct {
	what  question
	base  snapshot.Snapshot
	seen  snapshot.Snapshot
	xids  []uint64
	useUp bool          // use up a transaction id before
	heads bool          // of rows only the heads
	most  int64         // bytes of rows, past which they are too many
	Wait  time.Duration // at most, for the stream or the next tick
}

// Over says that nothing is: the tick has ended, and the next is to come after Wait at the latest.
func (a *Ask) Over() bool { return a.what == askNothing }

// ForStream says that the server need not be asked: the stream is to bring something, within Wait.
func (a *Ask) ForStream() bool { return a.what == askStream }

// answer is what the server says.
type answer struct {
	at     point
	rows   rowSet
	counts map[uint64]int
	topics []string
}

// point is what every look at the server gives.
type point struct {
	snap snapshot.Snapshot
	lsn  pglogrepl.LSN // everything that snap sees was written to the log before it
}

// Server answers the feed's questions, in one round trip each. After an error it is only closed. Looks give a snapshot and a position
// of the log, before which everything that the snapshot sees was written.
type Server interface {
	// UseUpID ends a transaction that has an id. A snapshot taken later lists all transactions with lower ids that have not ended,
	// also the newest, which else, while its commit waits for a standby, lies past the snapshot's xmax: the gap rule would not see it.
	UseUpID(ctx context.Context) error
	// Tick reads no row.
	Tick(ctx context.Context) (snapshot.Snapshot, pglogrepl.LSN, error)
	// ReadWindow reads the rows that base does not see, in order of id, each until add fails. heads leaves out what rows carry.
	ReadWindow(ctx context.Context, base snapshot.Snapshot, heads bool, add func(*message.Row) error) (snapshot.Snapshot, pglogrepl.LSN, error)
	// CountWindow counts them by transaction.
	CountWindow(ctx context.Context, base snapshot.Snapshot, counts map[uint64]int) (snapshot.Snapshot, pglogrepl.LSN, error)
	// WindowTopics returns the topics of those that seen sees.
	WindowTopics(ctx context.Context, base, seen snapshot.Snapshot) ([]string, error)
	// ReadTransactions reads the rows of transactions.
	ReadTransactions(ctx context.Context, xids []uint64, heads bool, add func(*message.Row) error) error
	// TransactionTopics returns their topics.
	TransactionTopics(ctx context.Context, xids []uint64) ([]string, error)
	// Close ends the session.
	Close()
}

// put asks the server.
func (a *Ask) put(ctx context.Context, s Server, got *answer) (err error) {
	*got = answer{rows: rowSet{limit: a.most}}
	if a.useUp {
		if err := s.UseUpID(ctx); err != nil {
			return err
		}
	}
	switch a.what {
	case askTick:
		got.at.snap, got.at.lsn, err = s.Tick(ctx)
	case askWindow:
		got.at.snap, got.at.lsn, err = s.ReadWindow(ctx, a.base, a.heads, got.rows.add)
	case askCounts:
		got.counts = make(map[uint64]int)
		got.at.snap, got.at.lsn, err = s.CountWindow(ctx, a.base, got.counts)
	case askTransactions:
		if err = s.ReadTransactions(ctx, a.xids, a.heads, got.rows.add); err != nil {
			err = fmt.Errorf("complete a window: %w", err)
		}
	case askWindowTopics:
		got.topics, err = s.WindowTopics(ctx, a.base, a.seen)
	case askTransactionTopics:
		got.topics, err = s.TransactionTopics(ctx, a.xids)
	default:
		err = errors.New("nothing to ask the server")
	}
	return err
}

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
		return store.MaxWindow, store.MaxWindow
	}
	for i, r := range s.rows {
		if i == 0 || r.XID != s.rows[i-1].XID {
			transactions++
		}
	}
	return len(s.rows), transactions
}

// add takes a row in, or none any more once there are too many. It fails when so much has come in vain that the query is to end.
func (s *rowSet) add(r *message.Row) error {
	s.bytes += r.Arrived()
	if s.over || len(s.rows) >= store.MaxWindow || s.bytes > s.limit {
		s.over, s.rows = true, nil
		if s.bytes > s.limit+message.MaxOverflow {
			return store.ErrOverflow
		}
		return nil
	}
	s.rows = append(s.rows, r)
	return nil
}
