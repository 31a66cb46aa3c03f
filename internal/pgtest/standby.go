package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
)

// Standby starts a streaming standby of s: a cluster of its own, with its own
// directory, port and watchdog, that answers queries. It is stopped like any other
// server, and outlives s if need be.
//
// Its name for s (application_name, for synchronous_standby_names) is the setting
// cluster_name in o, or else walreceiver. What it must have in common with s
// (wal_level, max_connections and the like) it takes over, nothing else: not what
// ALTER SYSTEM set. A setting primary_conninfo in o leads the stream through a
// proxy. It keeps no slot on s, so that one which is away while s makes checkpoints
// needs wal_keep_size on s to get back.
func (s *Server) Standby(ctx context.Context, o Options) (*Server, error) {
	n := &Server{binDir: cmp.Or(o.BinDir, s.binDir)}
	if err := n.follow(ctx, s, o); err != nil {
		return nil, fmt.Errorf("start a standby: %w", errors.Join(err, n.Stop()))
	}
	return n, nil
}

// follow makes a new server a standby of primary.
func (s *Server) follow(ctx context.Context, primary *Server, o Options) (err error) {
	b, err := beginBackup(ctx, primary)
	if err != nil {
		return fmt.Errorf("back the primary up: %w", err)
	}
	// The backup keeps the WAL until the stream has begun.
	defer func() { err = errors.Join(err, b.close()) }()
	if o, err = standbyOptions(ctx, b.conn, primary, o); err != nil {
		return err
	}
	makeData := func(ctx context.Context) error { return b.copyTo(ctx, s) }
	if err := s.start(ctx, o, makeData); err != nil {
		return err
	}
	return s.await(ctx, "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')")
}

// standbyOptions adds to o what a standby of primary needs.
func standbyOptions(ctx context.Context, conn *pgx.Conn, primary *Server, o Options) (Options, error) {
	rows, err := conn.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN
		('wal_level', 'max_connections', 'max_prepared_transactions', 'max_locks_per_transaction', 'max_wal_senders', 'max_worker_processes')`)
	if err != nil {
		return o, err
	}
	settings := map[string]string{
		"primary_conninfo": fmt.Sprintf("host=127.0.0.1 port=%d user=%s", primary.port, superuser),
	}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		settings[name] = value
		return nil
	})
	if o.WALLevel != "" {
		settings["wal_level"] = o.WALLevel
	}
	maps.Copy(settings, o.Settings)
	o.Settings = settings
	return o, err
}

// Promote makes a primary of a standby and returns when it takes writes.
func (s *Server) Promote(ctx context.Context) error {
	// The server's own bound is far; it is ctx that counts.
	done, err := query1[bool](ctx, s.URL("postgres"), `SELECT pg_promote(wait_seconds => 3600)`)
	if err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	if !done {
		return errors.New("promote the standby: it is still in recovery after an hour")
	}
	return nil
}

// AwaitCaughtUp returns when standby shows all that was committed on s by now
// (commits with synchronous_commit = off excepted).
func (s *Server) AwaitCaughtUp(ctx context.Context, standby *Server) error {
	lsn, err := query1[string](ctx, s.URL("postgres"), `SELECT pg_current_wal_flush_lsn()::text`)
	if err == nil {
		err = standby.await(ctx, `SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, lsn)
	}
	if err != nil {
		return fmt.Errorf("wait for the standby to catch up: %w", err)
	}
	return nil
}

// await asks sql until it yields true.
func (s *Server) await(ctx context.Context, sql string, args ...any) error {
	for {
		done, err := query1[bool](ctx, s.URL("postgres"), sql, args...)
		if done || err != nil {
			return err
		}
		if !pause(ctx) {
			return context.Cause(ctx)
		}
	}
}
