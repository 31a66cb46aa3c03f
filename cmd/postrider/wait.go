package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
)

// waitForDatabase connects, and waits as long as the database cannot be reached yet, or is a standby still. What waiting cannot mend,
// such as a wrong password or a database that does not exist, is returned at once. What it waits for is logged once, and again when
// that has changed.
func waitForDatabase(ctx context.Context, databaseURL string, logger *slog.Logger, note func(error)) (*dbconn.Conn, error) {
	config, err := admin.ConnConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	began, told := time.Now(), ""
	db, err := backoff.RetryNotifyWithData(func() (*dbconn.Conn, error) {
		db, err := dbconn.Connect(ctx, config)
		if err != nil && !worthWaiting(err) {
			return nil, backoff.Permanent(err)
		}
		return db, err
	}, backoff.WithContext(wait, ctx), func(err error, _ time.Duration) {
		note(err)
		if kind := dberr.Kind(err); told != kind {
			told = kind
			logger.Warn("the database cannot be used yet; waiting for it", "because", dberr.Cause(err))
		}
	})
	if err == nil && told != "" {
		logger.Info("the database is there", "after", time.Since(began).Round(time.Millisecond))
	}
	return db, err
}

// worthWaiting tells a database that is not there yet from one that does not want us. A server's answer is final unless it
// says that it is starting, stopping or full.
func worthWaiting(err error) bool {
	if dbconn.Hopeless(err) {
		return false
	}
	for _, code := range dberr.Codes(err) { // of all hosts
		switch code {
		case "57P01", "57P02", "57P03", "53300", "53400", "58000":
			continue
		case "25006": // read_only_sql_transaction: it has become a standby
			continue
		}
		if !strings.HasPrefix(code, "08") { // connection trouble, also as poolers report it
			return false
		}
	}
	return true
}
