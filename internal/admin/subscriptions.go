package admin

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
)

// Subscription is a subscription in a listing; the keys are stable, secrets do not show.
type Subscription struct {
	Name         string          `json:"name"`
	State        string          `json:"state"`
	PausedReason string          `json:"paused_reason"`
	Topics       []string        `json:"topics"`
	Sink         string          `json:"sink"`
	Settings     json.RawMessage `json:"settings"`
	CreatedAt    time.Time       `json:"created_at"`
	UpdatedAt    time.Time       `json:"updated_at"`
}

// Subscriptions lists all subscriptions by name.
func Subscriptions(ctx context.Context, db Querier) ([]Subscription, error) {
	return readSubscriptions(ctx, db, "")
}

// ShowSubscription returns one subscription.
func ShowSubscription(ctx context.Context, db Querier, name string) (Subscription, error) {
	if name == "" {
		return Subscription{}, noSubscription(ctx, db, name)
	}
	list, err := readSubscriptions(ctx, db, name)
	if err == nil && len(list) == 0 {
		err = noSubscription(ctx, db, name)
	}
	if err != nil {
		return Subscription{}, err
	}
	return list[0], nil
}

// UnredactedSink returns the sink that a subscription has where sink is what shows of it, and else sink.
func UnredactedSink(ctx context.Context, db Querier, name, sink string) (string, error) {
	if !strings.Contains(sink, destination.Hidden) {
		return sink, nil
	}
	var is string
	err := db.QueryRow(ctx, "SELECT sink FROM postrider.subscriptions WHERE name = $1", name).Scan(&is)
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return "", err
	case err != nil || destination.Redact(is) != sink:
		return "", errorf(Invalid, "sink: %s stands in place of a secret, and the rest is not as the subscription has it: give the secret again", destination.Hidden)
	}
	return is, nil
}

// readSubscriptions reads one, or all for "".
func readSubscriptions(ctx context.Context, db Querier, name string) ([]Subscription, error) {
	rows, err := db.Query(ctx, `
		SELECT name, state, coalesce(paused_reason, ''), topics, sink, settings::text, created_at, updated_at
		FROM postrider.subscriptions WHERE $1 = '' OR name = $1 ORDER BY name`, name)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]Subscription{}, rows, func(row pgx.CollectableRow) (s Subscription, err error) {
		var settings string
		err = row.Scan(&s.Name, &s.State, &s.PausedReason, &s.Topics, &s.Sink, &settings, &s.CreatedAt, &s.UpdatedAt)
		s.Sink, s.Settings = destination.Redact(s.Sink), destination.RedactSettings(json.RawMessage(settings))
		return s, err
	})
}

// Pause stops the deliveries of a subscription. Without a reason it keeps the one that it has.
func Pause(ctx context.Context, db *dbconn.Conn, name, reason string) error {
	return changeOne(ctx, db, name, "SELECT postrider.pause($1, nullif($2, ''))", name, db.Encoding().Storable(reason))
}

// Resume lets the deliveries of a subscription go on.
func Resume(ctx context.Context, db *dbconn.Conn, name string) error {
	return changeOne(ctx, db, name, "SELECT postrider.resume($1)", name)
}

// Remove removes a subscription with its cursor and its parked messages. In SQL it is postrider.unsubscribe.
func Remove(ctx context.Context, db *dbconn.Conn, name string) error {
	return changeOne(ctx, db, name, "SELECT postrider.unsubscribe($1)", name)
}

// changeOne runs a function of the schema that answers whether there is such a subscription.
func changeOne(ctx context.Context, db *dbconn.Conn, name, sql string, args ...any) error {
	var found bool
	if err := db.QueryRow(ctx, sql, args...).Scan(&found); err != nil {
		return err
	}
	if !found {
		return noSubscription(ctx, db, name)
	}
	return nil
}

// requireSubscription says where there is no such subscription.
func requireSubscription(ctx context.Context, db Querier, name string) error {
	var found bool
	if err := db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM postrider.subscriptions WHERE name = $1)", name).Scan(&found); err != nil {
		return err
	}
	if !found {
		return noSubscription(ctx, db, name)
	}
	return nil
}
