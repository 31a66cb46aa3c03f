package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/states"
)

// ParkedStates are the states of a parked message, as they are listed.
var ParkedStates = states.Names(nil)

// Parked is a parked message in a listing; the keys are stable.
type Parked struct {
	Subscription string     `json:"subscription"`
	ID           int64      `json:"id"`
	State        string     `json:"state"`
	Attempts     int        `json:"attempts"`
	Due          *time.Time `json:"due"`
	Topic        string     `json:"topic"`
	Key          *string    `json:"key"`
	Reason       string     `json:"reason"`
	ParkedAt     time.Time  `json:"parked_at"`
	CreatedAt    time.Time  `json:"created_at"`
}

// parkedColumns are the columns of a Parked, in order. Of times, what no JSON holds must not fail the list.
var parkedColumns = fmt.Sprintf("subscription, id, state, attempts, %s, topic, key, coalesce(reason, ''), %s, %s",
	writable("due"), writable("parked_at"), writable("created_at"))

// writable keeps a time within the years that RFC 3339 has; PostgreSQL has more, and two infinities.
func writable(column string) string {
	return fmt.Sprintf("CASE WHEN %[1]s > '9999-12-31' THEN '9999-12-31 00:00:00Z' WHEN %[1]s < '0001-01-02' THEN '0001-01-02 00:00:00Z' ELSE %[1]s END", column)
}

// ParkedFilter says which parked messages are asked for.
type ParkedFilter struct {
	Subscription string   // empty: of all
	States       []string // of ParkedStates
	Limit        int      // most messages
}

// Check says what is wrong with it.
func (f ParkedFilter) Check() error {
	for _, s := range f.States {
		if !slices.Contains(ParkedStates, s) {
			return errorf(Invalid, "state %q: must be one of %s", s, strings.Join(ParkedStates, ", "))
		}
	}
	if f.Limit < 1 {
		return errorf(Invalid, "limit %d: must be at least 1", f.Limit)
	}
	return nil
}

// ParkedList is what was asked for.
type ParkedList struct {
	Now      time.Time // by the database's clock
	Total    int64     // how many there are, listed or not
	Messages []Parked
}

// ListParked lists parked messages by subscription and id.
func ListParked(ctx context.Context, db Querier, f ParkedFilter) (list ParkedList, err error) {
	if err := f.Check(); err != nil {
		return list, err
	}
	if f.Subscription != "" {
		if err := requireSubscription(ctx, db, f.Subscription); err != nil {
			return list, err
		}
	}
	const which = " FROM postrider.parked WHERE ($1 = '' OR subscription = $1) AND state = ANY ($2)"
	if err := db.QueryRow(ctx, "SELECT clock_timestamp(), count(*)"+which, f.Subscription, f.States).Scan(&list.Now, &list.Total); err != nil {
		return list, err
	}
	rows, err := db.Query(ctx, "SELECT "+parkedColumns+which+" ORDER BY subscription, id LIMIT $3", f.Subscription, f.States, f.Limit)
	if err != nil {
		return list, err
	}
	list.Messages, err = pgx.AppendRows([]Parked{}, rows, pgx.RowToStructByPos[Parked])
	return list, err
}

// ParkedMessage is a parked message with its contents.
type ParkedMessage struct {
	Parked
	Content

	Now time.Time `json:"-"` // by the database's clock
}

// ShowParked returns one parked message.
func ShowParked(ctx context.Context, db Querier, name string, id int64) (m ParkedMessage, err error) {
	if err := requireSubscription(ctx, db, name); err != nil {
		return m, err
	}
	var created string
	err = db.QueryRow(ctx, "SELECT "+parkedColumns+`, clock_timestamp(), parked.created_at::text
		FROM postrider.parked WHERE subscription = $1 AND id = $2 ORDER BY parked.created_at DESC LIMIT 1`, name, id).
		Scan(&m.Subscription, &m.ID, &m.State, &m.Attempts, &m.Due, &m.Topic, &m.Key, &m.Reason, &m.ParkedAt, &m.CreatedAt, &m.Now, &created)
	if err == nil {
		err = m.Content.read(ctx, db, "postrider.parked WHERE subscription = $1 AND id = $2 AND created_at = $3::text::timestamptz", name, id, created)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return m, errorf(NotFound, "message %d of subscription %q is not parked: the view postrider.deliveries tells its status", id, name)
	}
	return m, err
}
