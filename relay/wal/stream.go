package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/message"
)

const (
	Publication   = "postrider"
	statusEvery   = time.Second
	SlotPrefix    = "postrider_"
	createTimeout = "SET lock_timeout = '5s'; SET wal_sender_timeout = '10s'"
)

// Stream reads committed insertions from a temporary replication slot into held. It never waits for a subscription.
type Stream struct {
	DatabaseURL string
	Slot        string
	Decoder     *message.Decoder
	Backlog     *Backlog
	Log         *slog.Logger
	Following   func() // is called when the server has begun to send
}

// Run follows the log until ctx is cancelled or the connection fails. The slot vanishes with the connection.
func (s *Stream) Run(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("stream: connect: %w", err)
	}
	defer dbconn.Close(conn)
	if err := conn.Exec(ctx, createTimeout).Close(); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	_, err = pglogrepl.CreateReplicationSlot(ctx, conn, s.Slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		Temporary: true, Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		return fmt.Errorf("stream: create slot %s: %w", s.Slot, err)
	}
	err = pglogrepl.StartReplication(ctx, conn, s.Slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: []string{
		"proto_version '1'", "publication_names '" + Publication + "'", "binary 'true'"}})
	if err != nil {
		return fmt.Errorf("stream: start: %w", err)
	}
	conn.Frontend().SetMaxBodyLen(int(max(s.Backlog.limit, message.MaxOverflow)))
	s.Following()
	return s.follow(ctx, conn)
}

func (s *Stream) connect(ctx context.Context) (*pgconn.PgConn, error) {
	// A missing publication is a mere warning from PostgreSQL 18 on: rows would be left out without a word.
	return dbconn.Replication(ctx, s.DatabaseURL, "postrider stream", func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if strings.Contains(n.Message, Publication) {
			s.Log.Warn("stream", "notice", n.Message)
			s.Backlog.Overflow()
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

// reader is one connection's stream.
type reader struct {
	*Assembler
	conn *pgconn.PgConn
}

func (s *Stream) follow(ctx context.Context, conn *pgconn.PgConn) error {
	r := &reader{NewAssembler(s.Decoder, s.Backlog), conn}
	socket := conn.Conn()
	interrupt := func() { socket.SetReadDeadline(time.Now()) }
	s.Backlog.Connect(func() {
		r.asked.Store(true)
		interrupt()
	})
	defer s.Backlog.Disconnect()
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
			s.Backlog.Disconnect()
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
		return r.Take(m.Data)
	case *pgproto3.ErrorResponse:
		return fmt.Errorf("stream: %w", pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyDone:
		return errors.New("stream: ended by the server")
	}
	return nil
}
