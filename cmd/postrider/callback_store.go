package main

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/callback"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/secret"
)

const (
	callbackConns = 4
	// callbackQuery bounds one statement, with the wait for a connection.
	callbackQuery = 5 * time.Second
)

// callbackStore records callbacks. It has connections of its own: receivers must not have to wait for deliveries.
type callbackStore struct {
	pool    *dbconn.Pool
	secrets *secret.Store // that no reason shows
}

// newCallbackStore connects to nothing yet.
func newCallbackStore(databaseURL string) (*callbackStore, error) {
	config, err := dbconn.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	dbconn.Unprepared(c)
	c.ConnectTimeout = min(c.ConnectTimeout, callbackQuery)
	config.MinConns, config.MaxConns = 0, callbackConns
	pool, err := dbconn.NewPool(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	return &callbackStore{pool, new(secret.Store)}, nil
}

// close waits until nobody uses a connection.
func (s *callbackStore) close() { s.pool.Close() }

// ask reads one value.
func ask[T any](ctx context.Context, s *callbackStore, sql string, args ...any) (v T, err error) {
	ctx, cancel := context.WithTimeout(ctx, callbackQuery)
	defer cancel()
	err = s.pool.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// complete says that the work is done. False means that the attempt does not wait for a callback, or not yet.
func (s *callbackStore) complete(ctx context.Context, cb callback.Attempt) (bool, error) {
	return ask[bool](ctx, s, "SELECT postrider.complete($1::text, $2::bigint, $3::bigint)", cb.Subscription, cb.ID, cb.Token)
}

// fail says that the work has failed. False means the same.
func (s *callbackStore) fail(ctx context.Context, cb callback.Attempt, f failure) (bool, error) {
	if f.reason != nil {
		reason, err := s.pool.Storable(ctx, s.secrets.Redact(*f.reason))
		if err != nil {
			return false, err
		}
		f.reason = &reason
	}
	return ask[bool](ctx, s, `SELECT postrider.fail($1::text, $2::bigint, $3::bigint,
		reason => $4::text, retry_after => make_interval(secs => $5::float8), dead => $6::boolean)`,
		cb.Subscription, cb.ID, cb.Token, f.reason, f.retryAfter, f.dead)
}

// heartbeat begins the lease anew and returns its end. Zero means that the attempt does not wait for a callback, or not yet.
func (s *callbackStore) heartbeat(ctx context.Context, cb callback.Attempt, lease *float64) (time.Time, error) {
	until, err := ask[*time.Time](ctx, s, "SELECT postrider.heartbeat($1::text, $2::bigint, $3::bigint, make_interval(secs => $4::float8))",
		cb.Subscription, cb.ID, cb.Token, lease)
	if err != nil || until == nil {
		return time.Time{}, err
	}
	return *until, nil
}

// over says whether no callback for the attempt can have an effect any more.
func (s *callbackStore) over(ctx context.Context, cb callback.Attempt) (bool, error) {
	state, err := ask[string](ctx, s, "SELECT postrider.attempt_state($1::text, $2::bigint, $3::bigint)", cb.Subscription, cb.ID, cb.Token)
	return state == "over", err
}
