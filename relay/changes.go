package relay

import (
	"bytes"
	"context"
	"slices"

	"github.com/postrider/postrider/relay/delivery"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
)

// stopChanged stops runners whose subscription was changed or paused, in order, and those whose cursor is lost, at once. It tells
// an operator what somebody else has done: what a command does is nowhere else in this relay's log.
func (o *owner) stopChanged(ctx context.Context, standings map[subscription.Part]store.Standing) {
	for part, r := range o.running() {
		s, exists := standings[part]
		lost := !exists || s.Epoch != r.Env.Cursor.Epoch || s.Owner == nil || *s.Owner != o.incarnation
		if !lost && s.Version == r.Env.Cursor.Version && s.Active {
			if r.HasJoined() {
				o.log.Info("priorities are off: all have come to one place", "subscription", part.String())
				o.again[part] = true
				o.stopRunner(r)
			}
			continue
		}
		o.tellChange(ctx, r, s, exists)
		if s.Active && s.OwnedBy(o.incarnation) {
			o.again[part] = true
		}
		if lost {
			r.Abandon()
		}
		o.stopRunner(r)
	}
	o.tellResumed(standings)
}

func (o *owner) tellChange(ctx context.Context, r *delivery.Runner, s store.Standing, exists bool) {
	log := o.log.With("subscription", r.Env.Sub.Name)
	switch {
	case !exists:
		log.Warn("subscription removed")
	case s.Owner == nil || *s.Owner != o.incarnation:
		log.Warn("subscription lost: another relay has taken it over")
	case !s.Active && o.ownPauses[r.Env.Sub.Name] == s.Version: // told when it was done
	case !s.Active:
		log.Warn("subscription paused by a command", "because", orUnknown(s.Reason))
	default:
		fields, err := o.changedFields(ctx, r)
		switch {
		case err != nil:
			log.Info("subscription changed")
		case len(fields) > 0:
			log.Info("subscription changed", "fields", fields)
		case s.Epoch != r.Env.Cursor.Epoch:
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
	s, settings, _, err := o.db().Subscription(ctx, r.Env.Sub.Name)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(s.Topics, r.Env.Sub.Topics) {
		fields = append(fields, "topics")
	}
	if s.Sink != r.Env.Sub.Sink {
		fields = append(fields, "sink")
	}
	if !bytes.Equal(settings, r.Env.Cursor.Settings) {
		fields = append(fields, "settings")
	}
	return fields, nil
}

// tellResumed remembers which subscriptions go on that were paused at the last poll: whoever takes them over tells it. Those
// that are paused were nobody's, so anybody tells that one is gone.
func (o *owner) tellResumed(standings map[subscription.Part]store.Standing) {
	for name := range o.paused {
		if s, exists := standings[subscription.Whole(name)]; !exists {
			o.log.Warn("subscription removed while it was paused", "subscription", name)
		} else if s.Active {
			o.resumed[name] = true
		}
	}
	clear(o.paused)
	for part, s := range standings {
		if !s.Active {
			o.paused[part.Subscription] = true
		} else if s.Owner != nil {
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
	declared, err := o.registry().DeclaredBy(ctx, met)
	for _, d := range declared {
		if own, both := o.config.Declared[d.Subscription]; both && own.Sum != d.Sum {
			o.log.Warn("another relay was started with something else for a subscription of this one: the last start decides where its messages go; give them different names",
				"subscription", d.Subscription, "relay", d.Relay, "incarnation", d.Incarnation, "its_sink", d.Sink, "own_sink", own.Sink)
		}
	}
	return err
}
