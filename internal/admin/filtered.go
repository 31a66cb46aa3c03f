package admin

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/expression"
	"github.com/postrider/postrider/sinks"
)

// leftOut is the reason of a delivery that a filter has spared.
const leftOut = "left out by the subscription's filter, as that is now"

// TellFiltered says of deliveries that are settled whether the subscription's filter wants the message at all, going by the filter as it is now:
// nobody writes down that a message was left out.
func (m *Deliveries) TellFiltered(ctx context.Context, db Querier, c *Content) error {
	of := make(map[string]*Delivery)
	var names []string
	for i := range m.List {
		if d := &m.List[i]; d.Status == "delivered" && d.Result == nil && len(d.Kept) == 0 {
			of[d.Subscription], names = d, append(names, d.Subscription)
		}
	}
	if c == nil || c.Unreadable != "" || len(names) == 0 {
		return nil
	}
	rows, err := db.Query(ctx, `SELECT s.name, s.settings ->> 'filter', coalesce((SELECT o.priority FROM postrider.outbox o WHERE o.id = $2 ORDER BY o.created_at DESC LIMIT 1), $3::smallint)
		FROM postrider.subscriptions s WHERE s.name = ANY ($1) AND s.settings ->> 'filter' <> ''`, names, m.ID, sinks.DefaultPriority)
	if err != nil {
		return err
	}
	message := m.asMessage(c)
	var memo expression.Memo
	var name, filter string
	_, err = pgx.ForEachRow(rows, []any{&name, &filter, &message.Priority}, func() error {
		program, err := expression.Filter(filter)
		if err != nil {
			return nil // it has been changed by hand, and delivers nothing
		}
		if wants, _, err := program.Wants(message, &memo); err == nil && !wants {
			of[name].Reason = new(leftOut)
		}
		return nil
	})
	return err
}

// asMessage is what expressions are asked about.
func (m *Deliveries) asMessage(c *Content) *sinks.Message {
	message := &sinks.Message{ID: m.ID, Topic: m.Topic, Payload: c.Body, Headers: c.Headers, CreatedAt: m.CreatedAt}
	if c.Payload != nil {
		message.Payload, message.JSON = c.Payload, true
	}
	if m.Key != nil {
		message.Key = *m.Key
	}
	return message
}
