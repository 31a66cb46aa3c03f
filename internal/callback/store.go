package callback

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/secret"
	"github.com/postrider/postrider/sinks"
)

const (
	mostConns = 4
	// queryTimeout bounds one statement, with the wait for a connection.
	queryTimeout = 5 * time.Second
)

// Store records callbacks. It has connections of its own: receivers must not have to wait for deliveries.
type Store struct {
	Pool    *dbconn.Pool
	secrets *secret.Store // that no reason shows
}

// NewStore connects to nothing yet.
func NewStore(databaseURL string, secrets *secret.Store) (*Store, error) {
	config, err := dbconn.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	dbconn.Unprepared(c)
	c.ConnectTimeout = min(c.ConnectTimeout, queryTimeout)
	config.MinConns, config.MaxConns = 0, mostConns
	pool, err := dbconn.NewPool(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	return &Store{pool, secrets}, nil
}

// Close waits until nobody uses a connection.
func (s *Store) Close() { s.Pool.Close() }

// ask reads one value.
func ask[T any](ctx context.Context, s *Store, sql string, args ...any) (v T, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.Pool.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// complete says that the work is done, and what came of it: JSON, or nothing. False means that the attempt does not wait for a callback, or not yet.
func (s *Store) complete(ctx context.Context, cb Attempt, result []byte) (bool, error) {
	if result = []byte(s.secrets.Redact(string(result))); len(result) > 0 && sinks.CheckResult(result) == nil {
		text, err := s.Pool.JSON(ctx, result)
		if err != nil {
			return false, err
		}
		return ask[bool](ctx, s, "SELECT postrider.complete($1::text, $2::bigint, $3::bigint, $4::text::json)", cb.Subscription, cb.ID, cb.Token, text)
	}
	return ask[bool](ctx, s, "SELECT postrider.complete($1::text, $2::bigint, $3::bigint)", cb.Subscription, cb.ID, cb.Token)
}

// fail says that the work has failed. False means the same.
func (s *Store) fail(ctx context.Context, cb Attempt, f failure) (bool, error) {
	if f.reason != nil {
		reason, err := s.Pool.Storable(ctx, s.secrets.Redact(*f.reason))
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
func (s *Store) heartbeat(ctx context.Context, cb Attempt, lease *float64) (time.Time, error) {
	until, err := ask[*time.Time](ctx, s, "SELECT postrider.heartbeat($1::text, $2::bigint, $3::bigint, make_interval(secs => $4::float8))",
		cb.Subscription, cb.ID, cb.Token, lease)
	if err != nil || until == nil {
		return time.Time{}, err
	}
	return *until, nil
}

// over says whether no callback for the attempt can have an effect any more.
func (s *Store) over(ctx context.Context, cb Attempt) (bool, error) {
	state, err := ask[string](ctx, s, "SELECT postrider.attempt_state($1::text, $2::bigint, $3::bigint)", cb.Subscription, cb.ID, cb.Token)
	return state == "over", err
}
