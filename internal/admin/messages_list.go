package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/states"
)

// DeliveryStatuses are what a message may be for a subscription.
var DeliveryStatuses = append([]string{"pending", "delivered"}, states.Statuses()...)

// MessageFilter says which messages are looked for: all that it says holds for them. The newest come first.
type MessageFilter struct {
	Subscription string     // whose view of them; empty: nobody's
	Status       string     // one of DeliveryStatuses; needs a subscription
	Topic        string     // a pattern; empty: any
	Key          *string    // nil: any
	Since, Until *time.Time // created then or later, and before
	Before       *int64     // with ids below this one
	Limit        int        // from 1 to MostMessages
}

// MostMessages bounds one page.
const MostMessages = 200

// A page is looked for in steps: each is one short statement, and when they have taken long enough what was found is returned.
const (
	stepRows   = 5_000
	longSearch = 400 * time.Millisecond
)

// MessageRow is a message in a list; the keys are stable.
type MessageRow struct {
	ID        int64      `json:"id"`
	Topic     string     `json:"topic"`
	Key       *string    `json:"key"`
	CreatedAt time.Time  `json:"created_at"`
	Priority  *int       `json:"priority"`
	Status    *string    `json:"status"` // for the subscription that was asked about
	Attempts  *int       `json:"attempts"`
	Due       *time.Time `json:"due"`
	Reason    *string    `json:"reason"`
}

// MessageList is a page of messages.
type MessageList struct {
	Messages []MessageRow `json:"messages"`
	// Next is where the next page begins: what to ask for as before. Null: there is nothing more.
	Next *int64    `json:"next"`
	Now  time.Time `json:"-"` // by the database's clock
}

// Check says what is wrong with it.
func (f *MessageFilter) Check() error {
	switch {
	case f.Limit < 1 || f.Limit > MostMessages:
		return errorf(Invalid, "limit %d: must be from 1 to %d", f.Limit, MostMessages)
	case f.Status != "" && !slices.Contains(DeliveryStatuses, f.Status):
		return errorf(Invalid, "status %q: must be one of %s", f.Status, strings.Join(DeliveryStatuses, ", "))
	case f.Status != "" && f.Subscription == "":
		return errorf(Invalid, "status %q: is that of a delivery: name a subscription, too", f.Status)
	case f.Since != nil && f.Until != nil && !f.Since.Before(*f.Until):
		return errorf(Invalid, "until %s: must be after since, %s", f.Until.Format(time.RFC3339), f.Since.Format(time.RFC3339))
	}
	if f.Topic != "" {
		if err := topic.ValidatePattern(f.Topic); err != nil {
			return errorf(Invalid, "topic: %w", err)
		}
	}
	return nil
}

// CheckMessages says what is wrong with a filter, and whether there is its subscription.
func CheckMessages(ctx context.Context, db Querier, f MessageFilter) error {
	if err := f.Check(); err != nil || f.Subscription == "" {
		return err
	}
	return requireSubscription(ctx, db, f.Subscription)
}

// ListMessages looks for messages in the log, or, by a status that only parked messages have, among those that are parked. A page may be
// short, and even empty, though there is more: a look takes no more than a moment.
func ListMessages(ctx context.Context, db Querier, f MessageFilter) (list MessageList, err error) {
	if err := CheckMessages(ctx, db, f); err != nil {
		return list, err
	}
	list.Messages = []MessageRow{}
	s := search{MessageFilter: f, parked: slices.Contains(states.Statuses(), f.Status)}
	began := time.Now()
	for {
		if err := s.step(ctx, db, &list); err != nil {
			return list, err
		}
		if list.Next == nil || len(list.Messages) == f.Limit || time.Since(began) > longSearch {
			return list, nil
		}
		s.Before = list.Next
	}
}

// search is a filter on its way through the log, or through what a subscription has parked.
type search struct {
	MessageFilter
	parked bool
}

// rows is how many one step looks at: no more than are shown, if all of them are.
func (s *search) rows() int {
	if !s.parked && s.Status == "" && s.Subscription == "" && s.Topic == "" && s.Key == nil && s.Since == nil && s.Until == nil {
		return s.Limit + 1
	}
	return stepRows
}

// looked are the rows of one step; the first argument is where it begins, the second how many.
func (s *search) looked() string {
	if s.parked {
		return `SELECT p.id, p.topic::text, p.key, p.created_at, p.priority, p.state, p.attempts, p.due, p.reason FROM postrider.parked p
			WHERE p.subscription = $8 AND ($1::bigint IS NULL OR p.id < $1) ORDER BY p.id DESC LIMIT $2`
	}
	return `SELECT o.id, o.topic::text, o.key, o.created_at, o.priority, NULL::text AS state, NULL::integer AS attempts, NULL::timestamptz AS due, NULL::text AS reason
		FROM postrider.outbox o WHERE $8::text IS NOT NULL AND ($1::bigint IS NULL OR o.id < $1) ORDER BY o.id DESC LIMIT $2`
}

// step looks at some rows, adds what fits, and says where the next step begins.
func (s *search) step(ctx context.Context, db Querier, list *MessageList) error {
	var lowest *int64
	var n int
	rows, err := db.Query(ctx, fmt.Sprintf(`
		WITH looked AS MATERIALIZED (%s),
		found AS (
			SELECT * FROM looked l
			WHERE ($3 = '' OR l.topic ~ postrider.topic_regex(ARRAY[$3])) AND ($4::text IS NULL OR l.key = $4)
			  AND ($5::timestamptz IS NULL OR l.created_at >= $5) AND ($6::timestamptz IS NULL OR l.created_at < $6)
			ORDER BY l.id DESC LIMIT $7)
		SELECT b.lowest, b.n, b.now, f.id, f.topic, f.key, %s, f.priority, f.state, f.attempts, %s, f.reason
		FROM (SELECT min(id) AS lowest, count(*) AS n, clock_timestamp() AS now FROM looked) b LEFT JOIN found f ON true ORDER BY f.id DESC`,
		s.looked(), writable("f.created_at"), writable("f.due")),
		s.Before, s.rows(), s.Topic, s.Key, s.Since, s.Until, s.Limit+1, s.Subscription)
	if err != nil {
		return err
	}
	var found []MessageRow
	var id *int64
	var topic *string
	var created *time.Time
	var m MessageRow
	_, err = pgx.ForEachRow(rows, []any{&lowest, &n, &list.Now, &id, &topic, &m.Key, &created, &m.Priority, &m.Status, &m.Attempts, &m.Due, &m.Reason}, func() error {
		if id != nil {
			if m.Status != nil {
				m.Status = new(states.StatusOf(*m.Status))
			}
			m.ID, m.Topic, m.CreatedAt = *id, *topic, *created
			found = append(found, m)
		}
		return nil
	})
	if err != nil {
		return err
	}
	list.Next = nil
	if n == s.rows() {
		list.Next = lowest
	}
	return s.keep(ctx, db, found, list)
}

// keep adds what was found to the page, with its status where a subscription is asked about.
func (s *search) keep(ctx context.Context, db Querier, found []MessageRow, list *MessageList) error {
	if len(found) > s.Limit { // there is more than a page in this step
		found = found[:s.Limit]
		list.Next = &found[s.Limit-1].ID
	}
	if s.Subscription != "" && !s.parked {
		if err := s.addStatuses(ctx, db, found); err != nil {
			return err
		}
	}
	for i, m := range found {
		if s.Subscription != "" && (m.Status == nil || s.Status != "" && *m.Status != s.Status) {
			continue // it is not for this subscription
		}
		list.Messages = append(list.Messages, m)
		if len(list.Messages) == s.Limit && i < len(found)-1 {
			list.Next = &found[i].ID
			break
		}
	}
	return nil
}

// addStatuses asks where the messages stand for the subscription.
func (s *search) addStatuses(ctx context.Context, db Querier, found []MessageRow) error {
	ids := make([]int64, len(found))
	at := make(map[int64]*MessageRow, len(found))
	for i := range found {
		ids[i] = found[i].ID
		at[ids[i]] = &found[i]
	}
	rows, err := db.Query(ctx, fmt.Sprintf(`SELECT DISTINCT ON (d.id) d.id, d.status, d.attempts, %s, d.reason
		FROM postrider.deliveries d WHERE d.subscription = $2 AND d.id = ANY ($1) ORDER BY d.id, d.created_at DESC`, writable("d.due")), ids, s.Subscription)
	if err != nil {
		return err
	}
	var id int64
	var status string
	var m MessageRow
	_, err = pgx.ForEachRow(rows, []any{&id, &status, &m.Attempts, &m.Due, &m.Reason}, func() error {
		to := at[id]
		to.Status, to.Attempts, to.Due, to.Reason = new(status), m.Attempts, m.Due, m.Reason
		return nil
	})
	return err
}
