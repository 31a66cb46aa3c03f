package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// ask is what the core wants to know next.
type ask struct {
	what  question
	base  snapshot.Snapshot
	seen  snapshot.Snapshot
	xids  []uint64
	useUp bool          // use up a transaction id before
	heads bool          // of rows only the heads
	most  int64         // bytes of rows, past which they are too many
	wait  time.Duration // at most, for the stream or the next tick
}

// answer is what the server says.
type answer struct {
	tick   store.Tick
	rows   rowSet
	counts map[uint64]int
	topics []string
}

// server answers the core's questions, in one round trip each. After an error it is not asked again.
type server interface {
	// useUpID ends a transaction that has an id. A snapshot taken later lists all transactions with lower ids that have not ended,
	// also the newest, which else, while its commit waits for a standby, lies past the snapshot's xmax: the gap rule would not see it.
	useUpID(ctx context.Context) error
	look(ctx context.Context) (store.Tick, error)
	readWindow(ctx context.Context, base snapshot.Snapshot, heads bool, to *rowSet) (store.Tick, error)
	countWindow(ctx context.Context, base snapshot.Snapshot, to map[uint64]int) (store.Tick, error)
	windowTopics(ctx context.Context, base, seen snapshot.Snapshot) ([]string, error)
	readTransactions(ctx context.Context, xids []uint64, heads bool, to *rowSet) error
	transactionTopics(ctx context.Context, xids []uint64) ([]string, error)
}

// put asks the server.
func (a *ask) put(ctx context.Context, s server, got *answer) (err error) {
	*got = answer{}
	if a.useUp {
		if err := s.useUpID(ctx); err != nil {
			return err
		}
	}
	switch a.what {
	case askTick:
		got.tick, err = s.look(ctx)
	case askWindow:
		got.rows.limit = a.most
		got.tick, err = s.readWindow(ctx, a.base, a.heads, &got.rows)
	case askCounts:
		got.counts = make(map[uint64]int)
		got.tick, err = s.countWindow(ctx, a.base, got.counts)
	case askTransactions:
		got.rows.limit = a.most
		if err = s.readTransactions(ctx, a.xids, a.heads, &got.rows); err != nil {
			err = fmt.Errorf("complete a window: %w", err)
		}
	case askWindowTopics, askTransactionTopics:
		if a.what == askWindowTopics {
			got.topics, err = s.windowTopics(ctx, a.base, a.seen)
		} else {
			got.topics, err = s.transactionTopics(ctx, a.xids)
		}
		if err != nil {
			err = fmt.Errorf("topics of a large window: %w", err)
		}
	default:
		return errors.New("nothing to ask the server")
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
		return maxWindowRows, maxWindowRows
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
	if s.over || len(s.rows) >= maxWindowRows || s.bytes > s.limit {
		s.over, s.rows = true, nil
		if s.bytes > s.limit+message.MaxOverflow {
			return store.ErrOverflow
		}
		return nil
	}
	s.rows = append(s.rows, r)
	return nil
}
