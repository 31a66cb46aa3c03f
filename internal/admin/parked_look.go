package admin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/states"
)

// mostCounted is how far messages are counted one by one: beyond there are more.
const mostCounted = 10000

// StateCount is how many messages of a subscription are parked in a state.
type StateCount struct {
	State    string `json:"state"`
	Messages int64  `json:"messages"`
	More     bool   `json:"more"` // than were counted
}

// CountParked counts what a subscription has parked, in the order of ParkedStates; states without messages are left out.
func CountParked(ctx context.Context, db Querier, name string) ([]StateCount, error) {
	rows, err := db.Query(ctx, `
		SELECT s.state, least(n.n, $3), n.n > $3 FROM unnest($2::text[]) WITH ORDINALITY s (state, place) CROSS JOIN LATERAL (
			SELECT count(*) AS n FROM (SELECT FROM postrider.parked p WHERE p.subscription = $1 AND p.state = s.state LIMIT $3 + 1) p) n
		WHERE n.n > 0 ORDER BY s.place`, name, ParkedStates, int64(mostCounted))
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]StateCount{}, rows, pgx.RowToStructByPos[StateCount])
}

// WaitingKey is a key whose messages wait behind one of them.
type WaitingKey struct {
	Key      *string    `json:"key"`
	Messages int64      `json:"messages"` // that wait
	ID       int64      `json:"id"`       // the one that they wait for; 0: it was not found, or is about to end
	State    string     `json:"state"`
	Attempts int        `json:"attempts"`
	Due      *time.Time `json:"due"`
	Reason   string     `json:"reason"`
}

// WaitingKeys lists the keys of a subscription behind whose first message most others are held, as far as these were looked at: ten thousand.
func WaitingKeys(ctx context.Context, db Querier, name string, limit int) ([]WaitingKey, error) {
	rows, err := db.Query(ctx, `
		WITH held AS MATERIALIZED (
			SELECT h.key, count(*) AS n FROM (SELECT p.key FROM postrider.parked p WHERE p.subscription = $1 AND p.state = 'held' LIMIT $3) h
			GROUP BY h.key ORDER BY n DESC, h.key LIMIT $2
		), ahead AS MATERIALIZED (
			SELECT p.id, p.key, p.state, p.attempts, p.due, p.reason FROM unnest($4::text[]) s (state) CROSS JOIN LATERAL (
				SELECT * FROM postrider.parked p WHERE p.subscription = $1 AND p.state = s.state LIMIT $3) p
		)
		SELECT h.key, h.n, coalesce(a.id, 0), coalesce(a.state, ''), coalesce(a.attempts, 0), `+writable("a.due")+`, coalesce(a.reason, '')
		FROM held h LEFT JOIN LATERAL (SELECT * FROM ahead a WHERE a.key = h.key ORDER BY a.id LIMIT 1) a ON true
		ORDER BY h.n DESC, h.key`, name, limit, mostCounted, states.Names(func(s states.State) bool { return s.Blocks && s.Name != states.Held }))
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]WaitingKey{}, rows, pgx.RowToStructByPos[WaitingKey])
}
