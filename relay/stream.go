package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/internal/fifo"
	"github.com/postrider/postrider/relay/message"
)

const (
	publication   = "postrider"
	statusEvery   = time.Second
	slotPrefix    = "postrider_"
	lateAfter     = 2 * time.Millisecond // more than the shortest time between a commit and its sending
	createTimeout = "SET lock_timeout = '5s'; SET wal_sender_timeout = '10s'"
)

// stream reads committed insertions from a temporary replication slot into held. It never waits for a subscription.
type stream struct {
	databaseURL string
	slot        string
	decoder     *message.Decoder
	held        *held
	log         *slog.Logger
	lastXID     atomic.Uint64 // of the last transaction that was received
	following   func()        // is called when the server has begun to send
}

// run follows the log until ctx is cancelled or the connection fails. The slot vanishes with the connection.
func (s *stream) run(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("stream: connect: %w", err)
	}
	defer dbconn.Close(conn)
	if err := conn.Exec(ctx, createTimeout).Close(); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	_, err = pglogrepl.CreateReplicationSlot(ctx, conn, s.slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		Temporary: true, Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		return fmt.Errorf("stream: create slot %s: %w", s.slot, err)
	}
	err = pglogrepl.StartReplication(ctx, conn, s.slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: []string{
		"proto_version '1'", "publication_names '" + publication + "'", "binary 'true'"}})
	if err != nil {
		return fmt.Errorf("stream: start: %w", err)
	}
	conn.Frontend().SetMaxBodyLen(int(max(s.held.limit, maxOverflow)))
	s.following()
	return s.follow(ctx, conn)
}

func (s *stream) connect(ctx context.Context) (*pgconn.PgConn, error) {
	// A missing publication is a mere warning from PostgreSQL 18 on: rows would be left out without a word.
	return dbconn.Replication(ctx, s.databaseURL, "postrider stream", func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if strings.Contains(n.Message, publication) {
			s.log.Warn("stream", "notice", n.Message)
			s.held.overflow()
		}
	})
}

// endStream waits until the server has closed the connection, and with it the slot: a stop leaves none behind, not even for a
// moment.
func endStream(conn *pgconn.PgConn) {
	socket := conn.Conn()
	socket.SetDeadline(time.Now().Add(time.Second))
	conn.Frontend().Send(&pgproto3.Terminate{})
	if conn.Frontend().Flush() == nil {
		io.Copy(io.Discard, socket)
	}
}

// reader is the state of one connection's stream.
type reader struct {
	*stream
	conn   *pgconn.PgConn
	parser *pgoutput
	tx     *streamTx // under way; nil: none is
	spare  streamTx  // what tx points to
	lost   bool      // rows of the transaction under way were dropped
	asked  atomic.Bool
	seen   pglogrepl.LSN // received and acknowledged
	lag    time.Duration // shortest so far between a commit and its sending; an fsync lies between them
}

func (s *stream) follow(ctx context.Context, conn *pgconn.PgConn) error {
	r := &reader{stream: s, conn: conn, parser: newPgoutput(s.decoder), lag: time.Hour}
	socket := conn.Conn()
	interrupt := func() { socket.SetReadDeadline(time.Now()) }
	s.held.connect(func() {
		r.asked.Store(true)
		interrupt()
	})
	defer s.held.disconnect()
	interrupted := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		interrupt()
		close(interrupted)
	})()

	next := time.Now()
	for {
		now := time.Now()
		if asked := r.asked.Swap(false); asked || !now.Before(next) {
			if err := r.report(asked); err != nil {
				return err
			}
			next = now.Add(statusEvery)
			socket.SetReadDeadline(next)
		}
		if ctx.Err() != nil {
			s.held.disconnect()
			<-interrupted // else that would end the waiting for the server
			endStream(conn)
			return ctx.Err()
		}
		if r.asked.Load() {
			continue // asked between the report and the new deadline
		}
		if err := r.receive(); err != nil {
			return err
		}
	}
}

// report acknowledges what was received: the table, not the slot, is the durable buffer.
func (r *reader) report(ask bool) error {
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), r.conn,
		pglogrepl.StandbyStatusUpdate{WALWritePosition: r.seen, ReplyRequested: ask})
	if err != nil {
		return fmt.Errorf("stream: acknowledge: %w", err)
	}
	return nil
}

// receive handles one message; reaching the read deadline is no error.
func (r *reader) receive() error {
	// The background context spares pgconn a goroutine per message: the socket's deadline bounds the wait.
	message, err := r.conn.ReceiveMessage(context.Background())
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	switch m := message.(type) {
	case *pgproto3.CopyData:
		return r.copyData(m.Data)
	case *pgproto3.ErrorResponse:
		return fmt.Errorf("stream: %w", pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyDone:
		return errors.New("stream: ended by the server")
	}
	return nil
}

func (r *reader) copyData(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		if k.ReplyRequested {
			r.asked.Store(true)
		}
		r.seen = max(r.seen, k.ServerWALEnd)
		r.held.advance(r.seen)
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		return r.change(x)
	}
	return nil
}

func (r *reader) change(x pglogrepl.XLogData) error {
	kind, row, err := r.parser.parse(x.WALData, !r.lost)
	if err != nil {
		return err
	}
	switch kind {
	case msgBegin:
		r.tx, r.lost = &r.spare, false
	case msgInsert:
		r.insert(row)
	case msgCommit:
		// The position is that of the commit record's end only after the transaction has been added.
		if r.tx != nil && len(r.tx.rows) > 0 {
			r.tx.late = r.isLate(x.ServerTime.Sub(r.parser.committed))
			r.held.add(r.tx)
		}
		r.end()
		r.seen = max(r.seen, x.WALStart)
		r.held.advance(x.WALStart)
	}
	return nil
}

// isLate says whether the server has sent a transaction later than it can. Both times are its own.
func (r *reader) isLate(lag time.Duration) bool {
	r.lag = min(r.lag, lag)
	return lag > r.lag+lateAfter
}

// insert adds a row to the transaction under way, unless that has grown past the bound: then it becomes a gap.
func (r *reader) insert(row *message.Row) {
	if row == nil || r.tx == nil {
		return
	}
	r.tx.xid = row.XID
	r.lastXID.Store(row.XID)
	r.tx.rows = append(r.tx.rows, row)
	r.tx.bytes += row.Size()
	if r.tx.bytes > r.held.limit {
		r.end()
		r.lost = true
		r.held.overflow()
	}
}

// end forgets the transaction under way.
func (r *reader) end() {
	clear(r.spare.rows)
	r.tx, r.spare = nil, streamTx{rows: fifo.Emptied(r.spare.rows)}
}
