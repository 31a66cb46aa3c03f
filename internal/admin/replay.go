package admin

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
)

// Replayed is what became of a replay.
type Replayed struct {
	// Start is where the subscription goes on: earliest, now or a time.
	Start string `json:"start"`
	// Note is what the destination does with messages that it has got before, empty for nothing in particular.
	Note string `json:"note"`
}

// Replay sets a subscription's cursor to start: earliest, now, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h or 2d.
func Replay(ctx context.Context, db *dbconn.Conn, name, start string) (Replayed, error) {
	done := Replayed{Start: start}
	if err := CheckReplay(start); err != nil {
		return done, err
	}
	if since, ok := longAgo(start); ok {
		var err error
		if done.Start, err = timeAgo(ctx, db, since); err != nil {
			return done, err
		}
	}
	var sink string
	err := db.QueryRow(ctx, "SELECT sink FROM postrider.subscriptions WHERE name = $1", name).Scan(&sink)
	if errors.Is(err, pgx.ErrNoRows) {
		return done, noSubscription(ctx, db, name)
	}
	if err != nil {
		return done, err
	}
	done.Note = ReplayNote(Subscription{Sink: sink}, start)
	_, err = db.Exec(ctx, "SELECT postrider.replay($1, $2)", name, done.Start)
	return done, err
}

// ReplayNote is what a subscription's destination does with messages that it has got before, empty for nothing in particular.
func ReplayNote(s Subscription, start string) string {
	if start == "now" {
		return ""
	}
	return destination.ReplayNote(s.Sink)
}

// CheckReplay says what is wrong with where a replay is to begin.
func CheckReplay(start string) error {
	if _, ok := longAgo(start); !ok && subscription.CheckStart(start) != nil {
		return errorf(Invalid, "start %q: must be earliest, now, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h", start)
	}
	return nil
}

// longAgo reads how long ago something was: 1h, and days, which people count in: 2d, 1d12h.
func longAgo(text string) (time.Duration, bool) {
	days, rest, ok := strings.Cut(text, "d")
	n, err := strconv.ParseUint(days, 10, 16)
	if !ok || err != nil {
		n, rest = 0, text
	} else if rest == "" {
		rest = "0s"
	}
	d, err := time.ParseDuration(rest)
	return time.Duration(n)*24*time.Hour + d, err == nil && d >= 0
}

// timeAgo goes by the server's clock, as messages do.
func timeAgo(ctx context.Context, db Querier, since time.Duration) (string, error) {
	var at time.Time
	err := db.QueryRow(ctx, "SELECT clock_timestamp() - $1::bigint * interval '1 microsecond'", since.Microseconds()).Scan(&at)
	return at.UTC().Format(time.RFC3339Nano), err
}
