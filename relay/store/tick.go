package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/snapshot"
)

// tick is what each tick reads from the server.
type tick struct {
	snapshot snapshot.Snapshot
	lsn      pglogrepl.LSN // everything that snap sees was written to the log before it
}

var tickStatement = statement{"postrider_tick", `SELECT pg_current_snapshot(),
	CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END,
	EXISTS (SELECT FROM postrider.relays WHERE incarnation = $1::text::uuid) AND NOT pg_is_in_recovery()`}

// tickCall fills t, or fails with errLost if the relay's row is gone.
func tickCall(incarnation string, t *tick) call {
	return call{statement: tickStatement, args: [][]byte{[]byte(incarnation)}, binary: true, row: t.decode}
}

// decode reads the statement's row in binary format.
func (t *tick) decode(values [][]byte) (err error) {
	if len(values) != 3 || len(values[2]) != 1 {
		return message.ErrFormat
	}
	if values[2][0] == 0 {
		return ErrLost
	}
	if len(values[1]) != 8 {
		return message.ErrFormat
	}
	t.lsn = pglogrepl.LSN(binary.BigEndian.Uint64(values[1]))
	t.snapshot, err = snapshot.Decode(values[0])
	return err
}

// tick makes a tick that reads nothing else. Every live message waits for one, so the request is encoded once for the session,
// and the answer is read as it comes: a batch of pgconn would cost a goroutine, a watch on ctx and a description of the result.
func (s *Session) tick(ctx context.Context, incarnation string) (tick, error) {
	if !s.prepare {
		return s.lookUnprepared(ctx, incarnation)
	}
	if err := s.prepareTick(ctx, incarnation); err != nil {
		return tick{}, err
	}
	conn := s.conn.PgConn()
	if _, err := conn.Conn().Write(s.request); err != nil {
		return tick{}, fmt.Errorf("tick: %w", err)
	}
	t, err := readTick(conn)
	return t, OnStandby(err)
}

func (s *Session) lookUnprepared(ctx context.Context, incarnation string) (t tick, err error) {
	err = s.run(ctx, tickCall(incarnation, &t))
	return t, err
}

// prepareTick encodes the request of look, and makes the end of ctx end whatever waits for the connection.
func (s *Session) prepareTick(ctx context.Context, incarnation string) error {
	if ctx.Err() != nil || s.request != nil {
		return ctx.Err()
	}
	if _, err := s.conn.Prepare(ctx, tickStatement.name, tickStatement.sql); err != nil {
		return fmt.Errorf("prepare %s: %w", tickStatement.name, err)
	}
	bind := pgproto3.Bind{PreparedStatement: tickStatement.name, Parameters: [][]byte{[]byte(incarnation)}, ResultFormatCodes: []int16{1}}
	for _, m := range []pgproto3.FrontendMessage{&bind, &pgproto3.Execute{}, &pgproto3.Sync{}} {
		var err error
		if s.request, err = m.Encode(s.request); err != nil {
			return fmt.Errorf("tick: %w", err)
		}
	}
	socket := s.conn.PgConn().Conn()
	s.unwatch = context.AfterFunc(ctx, func() { socket.SetDeadline(time.Now()) })
	return nil
}

// readTick reads the answer up to its end.
func readTick(conn *pgconn.PgConn) (t tick, err error) {
	err = errors.New("tick: the server's answer has no row")
	for {
		// The background context spares pgconn a watch on it: the socket's deadline ends the wait.
		message, received := conn.ReceiveMessage(context.Background())
		if received != nil {
			return t, fmt.Errorf("tick: %w", received)
		}
		switch m := message.(type) {
		case *pgproto3.DataRow:
			err = t.decode(m.Values)
		case *pgproto3.ErrorResponse:
			return t, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return t, err
		}
	}
}
