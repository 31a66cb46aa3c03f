package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postrider/postrider/internal/dbconn"
)

// waitForDatabase connects, and waits as long as the database cannot be reached yet. What waiting cannot mend, such as a
// wrong password or a database that does not exist, is returned at once.
func waitForDatabase(ctx context.Context, databaseURL string, logger *slog.Logger, note func(error)) (*dbconn.Conn, error) {
	config, err := connConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	return backoff.RetryNotifyWithData(func() (*dbconn.Conn, error) {
		db, err := dbconn.Connect(ctx, config)
		if err != nil && !worthWaiting(err) {
			return nil, backoff.Permanent(err)
		}
		return db, err
	}, backoff.WithContext(wait, ctx), func(err error, in time.Duration) {
		note(err)
		logger.Warn("the database cannot be reached yet", "error", err, "retry_in", in.Round(time.Millisecond))
	})
}

// worthWaiting tells a database that is not there yet from one that does not want us. A server's answer is final unless it
// says that it is starting, stopping or full.
func worthWaiting(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	switch pgErr.Code {
	case "57P01", "57P02", "57P03", "53300", "53400":
		return true
	}
	return strings.HasPrefix(pgErr.Code, "08") || pgErr.Code == "58000" // connection trouble, also as poolers report it
}
