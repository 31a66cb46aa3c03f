package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/wal"
)

const (
	budgetEvery = 2 * time.Second // between looks at how much WAL the slot holds back
	freeSlots   = 2               // slots and senders that must be free: the last ones belong to others
	slotsRetry  = 15 * time.Second

	holdMin   = 30 * time.Second // without a stream after the producers have outrun it; doubled each time
	holdMax   = 5 * time.Minute
	lullEvery = 500 * time.Millisecond
	lullLooks = 4 // so many looks in a row that find little to do are a lull
)

// streamer keeps a stream running while there are live runners and the server can afford it. Ticks from the table go on
// meanwhile, whatever happens here.
type streamer struct {
	config *Config
	log    *slog.Logger
	health *health.Health
	pool   *dbconn.Pool
	feed   *feed
	stream wal.Stream
	hold   time.Duration // how long to read the table after the stream has not kept up
}

// errOutrun says that the producers are faster than the stream.
var errOutrun = errors.New("the producers outrun the stream")

// errOverBudget says that an old transaction makes the slot hold back too much WAL.
var errOverBudget = errors.New("the slot holds back too much WAL")

func (s *streamer) run(ctx context.Context) error {
	retry := async.ReconnectBackoff()
	for s.awaitActive(ctx) {
		started := time.Now()
		err := s.runOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			continue
		}
		if time.Since(started) > time.Minute {
			retry.Reset()
		}
		wait := retry.NextBackOff()
		if errors.Is(err, errNoSlots) {
			wait = slotsRetry
		}
		s.health.Failed(health.CannotStream, err)
		if !async.Sleep(ctx, wait) {
			return nil
		}
	}
	return nil
}

// awaitActive returns true when there are live runners, false when ctx is cancelled.
func (s *streamer) awaitActive(ctx context.Context) bool {
	for !s.feed.active.Load() {
		select {
		case <-ctx.Done():
			return false
		case <-s.feed.activated:
		}
	}
	return ctx.Err() == nil
}

var errNoSlots = errors.New("no replication slot or WAL sender to spare: raise max_replication_slots and max_wal_senders")

func (s *streamer) runOnce(ctx context.Context) error {
	if err := s.checkFree(ctx); err != nil {
		return err
	}
	streamCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	select {
	case <-s.feed.outrun: // of the last one
	default:
	}
	started, since := time.Now(), s.feed.closedWindow().Snapshot
	s.stream.Following = func() { s.health.Works(health.CannotStream) }
	go func() { ended <- s.stream.Run(streamCtx) }()
	err := s.watch(streamCtx, ended, cancel)
	switch {
	case errors.Is(err, errOverBudget):
		s.log.Warn("stream given up until older transactions have ended", "wal_budget", s.config.WALBudget)
		return s.awaitOldTransactions(ctx)
	case store.Unreadable(err):
		s.hold = nextHold(s.hold, time.Since(started))
		s.log.Warn("stream given up for a while: it cannot carry a message; ticks read the table", "message", s.suspect(ctx, since), "error", err, "for", s.hold)
		async.Sleep(ctx, s.hold)
		return nil
	case errors.Is(err, errOutrun):
		s.hold = nextHold(s.hold, time.Since(started))
		s.log.Info("stream given up for a while: reading the table costs less and is as fast", "for_at_most", s.hold)
		return s.awaitLull(ctx)
	}
	return err
}

// suspect names the largest message that the stream may have met, as far as that shows without reading it.
func (s *streamer) suspect(ctx context.Context, since snapshot.Snapshot) (which string) {
	if seen := s.stream.Backlog.Received.Load(); seen > since.Xmin() {
		since = snapshot.Snapshot{Xmax: seen}
	}
	err := s.pool.QueryRow(ctx, `SELECT format('%s, topic %s, %s bytes stored', id, topic,
			coalesce(pg_column_size(payload), 0) + coalesce(pg_column_size(body), 0) + coalesce(pg_column_size(headers), 0) + coalesce(pg_column_size(key), 0))
		FROM postrider.outbox WHERE xid >= $1::text::xid8
		ORDER BY CASE WHEN pg_column_compression(payload) IS NULL THEN 1 ELSE 100 END * coalesce(pg_column_size(payload), pg_column_size(body)) DESC
		LIMIT 1`, strconv.FormatUint(since.Xmin(), 10)).Scan(&which)
	if err != nil {
		return "unknown: " + err.Error()
	}
	return which
}

// nextHold returns for how long to read the table after a stream that has lasted so long; hold is what it was the last time.
func nextHold(hold, lasted time.Duration) time.Duration {
	if lasted > holdMax {
		return holdMin
	}
	return min(max(2*hold, holdMin), holdMax)
}

// awaitLull waits until few transactions are left for the stream to carry, but not too long: there may be more time for it then.
func (s *streamer) awaitLull(ctx context.Context) error {
	ticker := time.NewTicker(lullEvery)
	defer ticker.Stop()
	over := time.NewTimer(s.hold)
	defer over.Stop()
	was, since := s.feed.fromTable.Load(), time.Now()
	for quiet := 0; quiet < lullLooks; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case <-ticker.C:
		}
		n, now := s.feed.fromTable.Load(), time.Now()
		quiet++
		if float64(n-was) >= s.config.busyRate*2/3*now.Sub(since).Seconds() {
			quiet = 0
		}
		was, since = n, now
	}
	return nil
}

func (s *streamer) checkFree(ctx context.Context) error {
	var slots, senders int
	err := s.pool.QueryRow(ctx, `SELECT
		current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int,
		current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication)::int`).Scan(&slots, &senders)
	if err != nil {
		return fmt.Errorf("stream: count free slots: %w", err)
	}
	if slots < freeSlots || senders < freeSlots {
		return errNoSlots
	}
	return nil
}

// watch waits for the stream to end and ends it when nobody is live any more or the slot gets too expensive.
func (s *streamer) watch(ctx context.Context, ended <-chan error, cancel context.CancelCauseFunc) error {
	ticker := time.NewTicker(budgetEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-s.feed.outrun:
			cancel(errOutrun)
			<-ended
			return errOutrun
		case <-ticker.C:
		}
		var reason error
		if s.feed.active.Load() {
			if over, err := s.overBudget(ctx); err != nil || !over {
				continue // a failing connection shows in the stream itself
			}
			reason = errOverBudget
		}
		cancel(reason)
		<-ended
		return reason
	}
}

func (s *streamer) overBudget(ctx context.Context) (bool, error) {
	var over bool
	err := s.pool.QueryRow(ctx, `SELECT coalesce(pg_current_wal_lsn() - restart_lsn, 0) > $2
		FROM pg_replication_slots WHERE slot_name = $1`, s.stream.Slot, s.config.WALBudget).Scan(&over)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // not created yet
	}
	return over, err
}

// awaitOldTransactions waits until every transaction that runs now has ended.
func (s *streamer) awaitOldTransactions(ctx context.Context) error {
	var xmax string
	if err := s.pool.QueryRow(ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text`).Scan(&xmax); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	for {
		var ended bool
		err := s.pool.QueryRow(ctx, `SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8`, xmax).Scan(&ended)
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		if ended {
			return nil
		}
		if !async.Sleep(ctx, budgetEvery) {
			return ctx.Err()
		}
	}
}

// listen wakes the feed on every notification. After each connect it wakes it too: nothing is kept for who did not listen.
func listen(ctx context.Context, f *feed) error {
	retry := async.ReconnectBackoff()
	for {
		err := listenOnce(ctx, f, func() {
			f.health.Works(health.CannotListen)
			retry.Reset()
		})
		if ctx.Err() != nil {
			return nil
		}
		f.health.Failed(health.CannotListen, err)
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil
		}
	}
}

func listenOnce(ctx context.Context, f *feed, healthy func()) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer dbconn.Close(conn.PgConn())
	if _, err := conn.Conn.Exec(ctx, "LISTEN postrider", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	healthy()
	async.Signal(f.wake)
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		async.Signal(f.wake)
	}
}

// streamable says why the server or role cannot stream, "" if it can.
func streamable(ctx context.Context, pool *dbconn.Pool) (why string, err error) {
	var level string
	var replication bool
	var published *string // what the publication is for, null if there is none
	err = pool.QueryRow(ctx, `SELECT current_setting('wal_level'),
		(SELECT rolreplication OR rolsuper OR EXISTS (
			SELECT FROM pg_roles m WHERE m.rolname = 'rds_replication' AND pg_has_role(m.oid, 'USAGE'))
		 FROM pg_roles WHERE rolname = current_user),
		(SELECT CASE WHEN p.puballtables THEN 'all tables'
		             WHEN NOT p.pubinsert OR NOT p.pubviaroot THEN 'something else than insertions by way of the partitioned table'
		             ELSE (SELECT coalesce(string_agg(DISTINCT t.schemaname || '.' || t.tablename, ', '), 'no table')
		                   FROM pg_publication_tables t WHERE t.pubname = p.pubname) END
		 FROM pg_publication p WHERE p.pubname = $1)`, wal.Publication).Scan(&level, &replication, &published)
	switch {
	case err != nil:
		return "", fmt.Errorf("look whether the server can stream: %w", err)
	case level != "logical":
		return fmt.Sprintf("wal_level is %q: ALTER SYSTEM SET wal_level = logical, then restart PostgreSQL", level), nil
	case !replication:
		return "the role may not replicate: ALTER ROLE … REPLICATION", nil
	case published == nil:
		return "publication postrider is missing: `postrider doctor` shows the statement that makes it", nil
	case *published != "postrider.outbox":
		return fmt.Sprintf("the publication postrider is for %s, not for postrider.outbox alone: `postrider doctor` shows what to do", *published), nil
	}
	return "", nil
}
