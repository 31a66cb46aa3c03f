package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/sinks"
)

const examineTimeout = 15 * time.Second

// examine connects, and runs the statement for no message: what it lacks shows.
func examine(ctx context.Context, t sinks.Target) (err error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	s, err := newSink(ctx, t, sinks.Surroundings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.unfit(err)
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return s.unfit(err)
	}
	if _, err := conn.Conn().PgConn().ExecParams(ctx, s.statement, s.args(nil), nil, formats, nil).Close(); err != nil {
		return errors.Join(s.unfit(err), ignoreClosed(tx.Rollback(ctx)))
	}
	return tx.Rollback(ctx)
}

func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}

// unfit makes what somebody has to change an UnfitError.
func (s *sink) unfit(err error) error {
	if faultOf(err) != ofSetup {
		return fmt.Errorf("look at %s: %w", s.name, err)
	}
	remedy := s.remedy(err)
	if remedy == "" {
		remedy = "change it there, or in the subscription"
	}
	return &sinks.UnfitError{Text: explain(err), Remedy: remedy}
}
