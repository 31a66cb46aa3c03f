package bare

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// stream reads the WAL through a temporary slot.
type stream struct {
	conn *pgconn.PgConn
	slot string
	at   pglogrepl.LSN
}

// newStream makes the slot: what is committed from now on will be read.
func newStream(ctx context.Context, database string) (*stream, error) {
	u, err := url.Parse(database)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	q.Set("replication", "database")
	u.RawQuery = q.Encode()
	conn, err := pgconn.Connect(ctx, u.String())
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, slot: fmt.Sprintf("bare_%d", os.Getpid())}
	made, err := pglogrepl.CreateReplicationSlot(ctx, conn, s.slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Temporary: true})
	if err == nil {
		s.at, err = pglogrepl.ParseLSN(made.ConsistentPoint)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a slot: %w", err), s.close())
	}
	return s, nil
}

func (s *stream) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.conn.Close(ctx)
}

// run puts what is inserted.
func (s *stream) run(ctx context.Context, to sink) error {
	err := pglogrepl.StartReplication(ctx, s.conn, s.slot, s.at,
		pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", "publication_names 'bare'"}})
	for told := time.Now(); err == nil; {
		if time.Since(told) > time.Second {
			told = time.Now()
			err = pglogrepl.SendStandbyStatusUpdate(ctx, s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: s.at})
		}
		if err == nil {
			err = s.receive(ctx, to)
		}
	}
	return fmt.Errorf("read the WAL: %w", err)
}

// receive takes one message, and waits for it for at most a second.
func (s *stream) receive(ctx context.Context, to sink) error {
	waiting, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	message, err := s.conn.ReceiveMessage(waiting)
	if pgconn.Timeout(err) && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return err
	}
	switch m := message.(type) {
	case *pgproto3.CopyData:
		return s.data(ctx, m.Data, to)
	case *pgproto3.ErrorResponse:
		return pgconn.ErrorResponseToPgError(m)
	}
	return nil
}

// header is the length of what stands before the WAL's data: 'w', start, end of the WAL, time. See "Streaming Replication Protocol" in the
// PostgreSQL manual.
const header = 1 + 8 + 8 + 8

// data takes one message of the stream.
func (s *stream) data(ctx context.Context, b []byte, to sink) error {
	if len(b) <= header || b[0] != 'w' {
		return nil // a keepalive: the position is told once a second anyway
	}
	s.at = max(s.at, pglogrepl.LSN(binary.BigEndian.Uint64(b[1:]))+pglogrepl.LSN(len(b)-header))
	if b = b[header:]; b[0] != 'I' {
		return nil
	}
	id, payload, err := insertion(b)
	if err != nil {
		return err
	}
	return to.put(ctx, id, payload)
}

// insertion reads the two columns of an Insert: 'I', relation, 'N', their number, and each: 't', length, text. See "Logical Replication
// Message Formats" in the PostgreSQL manual.
func insertion(b []byte) (id, payload []byte, err error) {
	rest := b[min(len(b), 1+4+1+2):]
	if id, rest, err = textColumn(rest); err == nil {
		payload, _, err = textColumn(rest)
	}
	return id, payload, err
}

func textColumn(b []byte) (value, rest []byte, err error) {
	if len(b) < 5 || b[0] != 't' {
		return nil, nil, errors.New("an insertion without the two columns of the plain table")
	}
	n := int(binary.BigEndian.Uint32(b[1:]))
	if n < 0 || len(b) < 5+n {
		return nil, nil, errors.New("an insertion that ends too early")
	}
	return b[5 : 5+n], b[5+n:], nil
}
