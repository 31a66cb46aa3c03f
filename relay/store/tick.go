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

// Tick is what every look at the server gives.
type Tick struct {
	Snapshot snapshot.Snapshot
	LSN      pglogrepl.LSN // everything that snap sees was written to the log before it
}

var tickStatement = Statement{"postrider_tick", `SELECT pg_current_snapshot(),
	CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END,
	EXISTS (SELECT FROM postrider.relays WHERE incarnation = $1::text::uuid) AND NOT pg_is_in_recovery()`}

// TickCall fills t, or fails with errLost if the relay's row is gone.
func TickCall(incarnation string, t *Tick) Call {
	return Call{Statement: tickStatement, Args: [][]byte{[]byte(incarnation)}, Binary: true, Row: t.decode}
}

// decode reads the statement's row in binary format.
func (t *Tick) decode(values [][]byte) (err error) {
	if len(values) != 3 || len(values[2]) != 1 {
		return message.ErrFormat
	}
	if values[2][0] == 0 {
		return ErrLost
	}
	if len(values[1]) != 8 {
		return message.ErrFormat
	}
	t.LSN = pglogrepl.LSN(binary.BigEndian.Uint64(values[1]))
	t.Snapshot, err = snapshot.Decode(values[0])
	return err
}

// Look makes a tick that reads nothing else. Every live message waits for one, so the request is encoded once for the session,
// and the answer is read as it comes: a batch of pgconn would cost a goroutine, a watch on ctx and a description of the result.
func (s *Session) Look(ctx context.Context, incarnation string) (Tick, error) {
	if !s.Prepare {
		return s.lookUnprepared(ctx, incarnation)
	}
	if err := s.prepareLook(ctx, incarnation); err != nil {
		return Tick{}, err
	}
	conn := s.Conn.PgConn()
	if _, err := conn.Conn().Write(s.request); err != nil {
		return Tick{}, fmt.Errorf("tick: %w", err)
	}
	t, err := readTick(conn)
	return t, OnStandby(err)
}

func (s *Session) lookUnprepared(ctx context.Context, incarnation string) (t Tick, err error) {
	err = s.Run(ctx, TickCall(incarnation, &t))
	return t, err
}

// prepareLook encodes the request of look, and makes the end of ctx end whatever waits for the connection.
func (s *Session) prepareLook(ctx context.Context, incarnation string) error {
	if ctx.Err() != nil || s.request != nil {
		return ctx.Err()
	}
	if _, err := s.Conn.Prepare(ctx, tickStatement.Name, tickStatement.SQL); err != nil {
		return fmt.Errorf("prepare %s: %w", tickStatement.Name, err)
	}
	bind := pgproto3.Bind{PreparedStatement: tickStatement.Name, Parameters: [][]byte{[]byte(incarnation)}, ResultFormatCodes: []int16{1}}
	for _, m := range []pgproto3.FrontendMessage{&bind, &pgproto3.Execute{}, &pgproto3.Sync{}} {
		var err error
		if s.request, err = m.Encode(s.request); err != nil {
			return fmt.Errorf("tick: %w", err)
		}
	}
	socket := s.Conn.PgConn().Conn()
	s.unwatch = context.AfterFunc(ctx, func() { socket.SetDeadline(time.Now()) })
	return nil
}

// readTick reads the answer up to its end.
func readTick(conn *pgconn.PgConn) (t Tick, err error) {
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
