package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Deliveries are a message with what came of it; the keys are stable.
type Deliveries struct {
	Now       time.Time  `json:"-"` // by the database's clock
	ID        int64      `json:"id"`
	Topic     string     `json:"topic"`
	Key       *string    `json:"key"`
	CreatedAt time.Time  `json:"created_at"`
	List      []Delivery `json:"deliveries"`
	// Content is what the message carries; nil: it has left the log, and nobody has a copy of it.
	Content *Content `json:"content"`
}

// Delivery is where a message stands for one subscription.
type Delivery struct {
	Subscription string          `json:"subscription"`
	Status       string          `json:"status"`
	Attempts     *int            `json:"attempts"`
	Due          *time.Time      `json:"due"`
	Reason       *string         `json:"reason"`
	Result       json.RawMessage `json:"result"`
	Progress     *Progress       `json:"progress"`
	Kept         []Attempt       `json:"kept_attempts"`
}

// Progress is how far a worker has come, as it has said.
type Progress struct {
	Percent float64 `json:"percent"`
	Note    string  `json:"note,omitempty"`
}

// Attempt is one that was kept.
type Attempt struct {
	Number  int           `json:"attempt"`
	Started time.Time     `json:"started_at"`
	Took    time.Duration `json:"-"`
	Seconds float64       `json:"seconds"`
	Relay   *string       `json:"relay"`
	Worker  *string       `json:"worker"`
	Outcome string        `json:"outcome"`
	Reason  *string       `json:"reason"`
	Due     *time.Time    `json:"due"`
}

// ShowMessage returns a message with what came of it, for one subscription or, if that is empty, for all. Of ids that came again it is the newest.
func ShowMessage(ctx context.Context, db Querier, id int64, subscription string) (m Deliveries, err error) {
	if m, err = ShowDeliveries(ctx, db, id, subscription); err == nil {
		m.Content, err = ReadContent(ctx, db, id)
	}
	if err == nil {
		err = m.TellFiltered(ctx, db, m.Content)
	}
	return m, err
}

// ShowDeliveries is ShowMessage without what the message carries.
func ShowDeliveries(ctx context.Context, db Querier, id int64, subscription string) (m Deliveries, err error) {
	if subscription != "" {
		if err := requireSubscription(ctx, db, subscription); err != nil {
			return m, err
		}
	}
	rows, err := db.Query(ctx, fmt.Sprintf(`SELECT of_subscription, status, topic, key, %s, attempts, %s, reason, result::text, progress, created_at::text, clock_timestamp()
		FROM (SELECT d.*, max(d.created_at) OVER () AS newest FROM postrider.deliveries_of($1, nullif($2, '')) d) d WHERE created_at = newest`, writable("created_at"), writable("due")), id, subscription)
	if err != nil {
		return m, err
	}
	m.ID, m.List = id, []Delivery{}
	var d Delivery
	var result *string
	var progress []byte
	var born string
	_, err = pgx.ForEachRow(rows, []any{&d.Subscription, &d.Status, &m.Topic, &m.Key, &m.CreatedAt, &d.Attempts, &d.Due, &d.Reason, &result, &progress, &born, &m.Now}, func() error {
		d.Result, d.Progress = nil, nil
		if result != nil {
			d.Result = json.RawMessage(*result)
		}
		if progress != nil {
			d.Progress = new(Progress)
			if err := json.Unmarshal(progress, d.Progress); err != nil {
				return fmt.Errorf("message %d: progress %s: %w", id, progress, err)
			}
		}
		m.List = append(m.List, d)
		return nil
	})
	if err == nil && len(m.List) == 0 {
		return m, errorf(NotFound, "message %d: no subscription wants it, or it has left the log", id)
	}
	if err == nil {
		err = m.readAttempts(ctx, db, born)
	}
	return m, err
}

// readAttempts adds what was kept of attempts: of all subscriptions at once, as there may be a thousand.
func (m *Deliveries) readAttempts(ctx context.Context, db Querier, born string) error {
	of := make(map[string]*Delivery, len(m.List))
	for i := range m.List {
		m.List[i].Kept = []Attempt{}
		of[m.List[i].Subscription] = &m.List[i]
	}
	rows, err := db.Query(ctx, `SELECT subscription, attempt, started_at, (extract(epoch FROM took))::float8, relay, worker, outcome, reason, due
		FROM postrider.attempts WHERE subscription = ANY ($1) AND id = $2 AND created_at = $3::text::timestamptz ORDER BY started_at`,
		slices.Collect(maps.Keys(of)), m.ID, born)
	if err != nil {
		return err
	}
	var name string
	var a Attempt
	_, err = pgx.ForEachRow(rows, []any{&name, &a.Number, &a.Started, &a.Seconds, &a.Relay, &a.Worker, &a.Outcome, &a.Reason, &a.Due}, func() error {
		a.Took = time.Duration(a.Seconds * float64(time.Second))
		of[name].Kept = append(of[name].Kept, a)
		return nil
	})
	return err
}
