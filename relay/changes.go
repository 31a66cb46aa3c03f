package relay

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/subscription"
)

// stopChanged stops runners whose subscription was changed or paused, in order, and those whose cursor is lost, at once. It tells
// an operator what somebody else has done: what a command does is nowhere else in this relay's log.
func (o *owner) stopChanged(ctx context.Context, standings map[subscription.Part]standing) {
	for part, r := range o.running() {
		s, exists := standings[part]
		lost := !exists || s.epoch != r.Env.Cursor.Epoch || s.owner == nil || *s.owner != o.incarnation
		if !lost && s.version == r.Env.Cursor.Version && s.active {
			continue
		}
		o.tellChange(ctx, r, s, exists)
		if s.active && s.ownedBy(o.incarnation) {
			o.again[part] = true
		}
		if lost {
			r.Abandon()
		}
		o.stopRunner(r)
	}
	o.lookForResumed(standings)
}

func (o *owner) tellChange(ctx context.Context, r *delivery.Runner, s standing, exists bool) {
	log := o.log.With("subscription", r.Env.Sub.Name)
	switch {
	case !exists:
		log.Warn("subscription removed")
	case s.owner == nil || *s.owner != o.incarnation:
		log.Warn("subscription lost: another relay has taken it over")
	case !s.active && o.ownPauses[r.Env.Sub.Name] == s.version: // told when it was done
	case !s.active:
		log.Warn("subscription paused by a command", "because", orUnknown(s.reason))
	default:
		fields, err := o.changedFields(ctx, r)
		switch {
		case err != nil:
			log.Info("subscription changed")
		case len(fields) > 0:
			log.Info("subscription changed", "fields", fields)
		case s.epoch != r.Env.Cursor.Epoch:
			log.Info("subscription replayed: its cursor was set by a command")
		default:
			log.Info("parked messages redriven or discarded by a command")
		}
	}
}

func orUnknown(reason string) string {
	if reason == "" {
		return "no reason was given"
	}
	return delivery.Shorten(reason)
}

// changedFields names what a subscription has otherwise than its runner.
func (o *owner) changedFields(ctx context.Context, r *delivery.Runner) (fields []string, err error) {
	var topics []string
	var sink string
	var settings []byte
	err = o.pool.QueryRow(ctx, "SELECT topics, sink, settings FROM postrider.subscriptions WHERE name = $1", r.Env.Sub.Name).
		Scan(&topics, &sink, &settings)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(topics, r.Env.Sub.Topics) {
		fields = append(fields, "topics")
	}
	if sink != r.Env.Sub.Sink {
		fields = append(fields, "sink")
	}
	if !bytes.Equal(settings, r.Env.Cursor.Settings) {
		fields = append(fields, "settings")
	}
	return fields, nil
}

// lookForResumed remembers which subscriptions go on that were paused at the last look: whoever takes them over tells it. Those
// that are paused were nobody's, so anybody tells that one is gone.
func (o *owner) lookForResumed(standings map[subscription.Part]standing) {
	for name := range o.paused {
		if s, exists := standings[subscription.Whole(name)]; !exists {
			o.log.Warn("subscription removed while it was paused", "subscription", name)
		} else if s.active {
			o.resumed[name] = true
		}
	}
	clear(o.paused)
	for part, s := range standings {
		if !s.active {
			o.paused[part.Subscription] = true
		} else if s.owner != nil {
			delete(o.resumed, part.Subscription)
		}
	}
}

// compare tells of other relays that were started with something else for a subscription of this relay's environment or file:
// each start rewrites the other's, and messages go where the last one says.
func (o *owner) compare(ctx context.Context, met []string) error {
	if len(met) == 0 || len(o.config.Declared) == 0 {
		return nil
	}
	rows, err := o.pool.Query(ctx, `SELECT r.name, left(r.incarnation::text, 8), d.key, coalesce(d.value ->> 'sum', ''), coalesce(d.value ->> 'sink', '')
		FROM postrider.relays r CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(r.declared) WHEN 'object' THEN r.declared ELSE '{}' END) d
		WHERE r.incarnation::text = ANY ($1)`, met)
	if err != nil {
		return fmt.Errorf("read relays: %w", err)
	}
	var name, short, subscription, sum, sink string
	_, err = pgx.ForEachRow(rows, []any{&name, &short, &subscription, &sum, &sink}, func() error {
		if own, both := o.config.Declared[subscription]; both && own.Sum != sum {
			o.log.Warn("another relay was started with something else for a subscription of this one: the last start decides where its messages go; give them different names",
				"subscription", subscription, "relay", name, "incarnation", short, "its_sink", sink, "own_sink", own.Sink)
		}
		return nil
	})
	return err
}
