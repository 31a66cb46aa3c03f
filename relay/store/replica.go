package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/message"
	"github.com/postrider/postrider/relay/subscription"
)

// Replica is a standby from which pages are read instead of from the primary. What it shows is believed only where it has replayed what
// the primary had when the pass's snapshot was taken, and where the cursor is there as its owner has it: a server of another history, such
// as a former primary, has not.
type Replica struct {
	Pool *dbconn.Pool
	// Tell is told of each page: whether the replica gave it, or else why not.
	Tell func(err error)
	rest atomic.Int64 // when it may be asked again, in nanoseconds
}

// ErrBehind says that a replica has not come as far as the pass that would read from it.
var ErrBehind = errors.New("it has not replayed yet what the pass needs")

// replicaRest is how long a replica that has failed is left alone.
const replicaRest = 5 * time.Second

// Owned is the part whose cursor a relay has.
type Owned struct {
	subscription.Part
	Incarnation string
	Epoch       int64
}

var (
	passPlace = statement{name: "postrider_pass_place", sql: `SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END`}
	replayed  = statement{name: "postrider_replayed", sql: `SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= $5::pg_lsn AND EXISTS (
		SELECT FROM postrider.cursors WHERE subscription = $2::text AND shard = $3::text::smallint AND epoch = $4::text::bigint AND owner = $1::text::uuid)`}
)

// place asks the primary up to where its WAL reaches: whoever has replayed so much sees all that was committed.
func (r *Replica) place(ctx context.Context, s *Session) (lsn string, err error) {
	err = s.run(ctx, call{statement: passPlace, row: func(values [][]byte) error {
		if lsn = string(values[0]); lsn == "" {
			return ErrLost
		}
		return nil
	}})
	return lsn, err
}

// ready reports whether the replica can be asked for a page.
func (r *Replica) ready(next *Page) bool {
	return r != nil && next.Begun && next.Place != "" && time.Now().UnixNano() >= r.rest.Load()
}

// read reads a page that is under way. If it could not, ok is false, and the page is the primary's to give.
func (r *Replica) read(ctx context.Context, q *PageQuery, next Page, decoder *message.Decoder) (page Page, ok bool) {
	page, err := r.fetch(ctx, q, next, decoder)
	if ctx.Err() != nil {
		return page, false
	}
	if err != nil && !errors.Is(err, ErrBehind) {
		r.rest.Store(time.Now().Add(replicaRest).UnixNano())
	}
	r.Tell(err)
	return page, err == nil
}

func (r *Replica) fetch(ctx context.Context, q *PageQuery, next Page, decoder *message.Decoder) (Page, error) {
	conn, err := r.Pool.Acquire(ctx)
	if err != nil {
		return next, err
	}
	defer conn.Release()
	session := NewSession(conn.Conn())
	there := *q
	there.standby, q = true, &there
	if err := q.findEnd(ctx, session, &next); err != nil {
		return next, err
	}
	args := append(q.Owned.args(), []byte(next.Place))
	return q.fetch(ctx, session, next, decoder, []call{{statement: replayed, args: args, row: func(values [][]byte) error {
		if string(values[0]) != "t" {
			return ErrBehind
		}
		return nil
	}}}, nil)
}
