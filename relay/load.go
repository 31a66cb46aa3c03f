package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/store"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// cursor is a row of postrider.cursors with its subscription, as this relay has taken it over.
type cursor struct {
	sub     subscription.Subscription
	version int64
	epoch   int64
	earlier []byte
	saved   snapshot.Position
	trouble string

	settings []byte // as they are in the table
}

// cursorColumns belong to rawCursor; s is the subscription, c the cursor. They are of types that take whatever the columns hold: a row
// that cannot be read would fail the statement for all.
const cursorColumns = `s.name, to_jsonb(s.topics)::text, s.sink, s.settings::text, s.version, s.earlier::text,
	c.epoch, c.base::text, c.target::text, c.after_id, ` + doneText + `,
	pg_snapshot_xmax(coalesce(c.target, c.base)) <= pg_snapshot_xmax(pg_current_snapshot()), coalesce(c.trouble, '')`

// rawCursor is a cursor as its row has it.
type rawCursor struct {
	name                    string
	topics, sink, settings  *string
	earlier                 *string
	version, epoch, afterID *int64
	base, target, done      *string
	trouble                 string
	past                    *bool // its snapshots are of this server's past
}

func scanCursor(scan func(...any) error) (c rawCursor, err error) {
	return c, scan(&c.name, &c.topics, &c.sink, &c.settings, &c.version, &c.earlier, &c.epoch, &c.base, &c.target, &c.afterID, &c.done, &c.past, &c.trouble)
}

// parse says what the cursor holds, or why it cannot be used. The settings are left for later.
func (r *rawCursor) parse() (c cursor, err error) {
	c = cursor{sub: subscription.Subscription{Name: r.name, Sink: text(r.sink)}, earlier: []byte(text(r.earlier)), trouble: r.trouble}
	if r.version == nil || r.epoch == nil || r.past == nil {
		return c, errors.New("version, epoch and base: none may be null")
	}
	c.version, c.epoch, c.settings = *r.version, *r.epoch, []byte(text(r.settings))
	if err := json.Unmarshal([]byte(text(r.topics)), &c.sub.Topics); err != nil {
		return c, fmt.Errorf("topics %s: must be a list of patterns: %w", text(r.topics), err)
	}
	if c.saved.Base, err = snapshot.Parse(text(r.base)); err != nil {
		return c, fmt.Errorf("base: %w", err)
	}
	if r.target != nil {
		t, err := snapshot.Parse(*r.target)
		if err != nil {
			return c, fmt.Errorf("target: %w", err)
		}
		if r.afterID == nil {
			return c, errors.New("after_id is null: it must be an id where there is a target")
		}
		c.saved.Target, c.saved.AfterID = &t, *r.afterID
	}
	if !*r.past {
		return c, fmt.Errorf("base %s, target %s: transactions that this server has not seen yet: `postrider subs replay` sets the cursor anew",
			text(r.base), orDefaultText(r.target, "none"))
	}
	if c.saved.Done, err = snapshot.ParseDoneSet(text(r.done)); err != nil {
		return c, fmt.Errorf("done: %w", err)
	}
	return c, nil
}

func text(s *string) string { return orDefaultText(s, "") }

func orDefaultText(s *string, standard string) string {
	if s == nil {
		return standard
	}
	return *s
}

// newFilter makes the filter of a cursor's topics and of those before changes that the base does not cover yet.
func newFilter(c cursor) (*filter, error) {
	current, err := topic.NewMatcher(c.sub.Topics)
	if err != nil {
		return nil, fmt.Errorf("topics: %w", err)
	}
	f := &filter{current: current}
	patterns := append([]string{}, c.sub.Topics...)
	var earlier []struct {
		Topics []string `json:"topics"`
		Until  string   `json:"until"`
	}
	if err := json.Unmarshal(c.earlier, &earlier); err != nil {
		return nil, fmt.Errorf("earlier topics %s: %w", c.earlier, err)
	}
	for _, e := range earlier {
		until, err := snapshot.Parse(e.Until)
		if err != nil {
			return nil, fmt.Errorf("earlier topics: %w", err)
		}
		match, err := topic.NewMatcher(e.Topics)
		if err != nil {
			return nil, fmt.Errorf("earlier topics: %w", err)
		}
		if !c.saved.Base.Covers(until) {
			f.earlier = append(f.earlier, earlierTopics{match, until})
			patterns = append(patterns, e.Topics...)
		}
	}
	f.regex = topic.Regex(patterns)
	return f, nil
}

// newRunner opens the sink of a cursor that was just taken over and loads what is parked.
func (g *generation) newRunner(ctx context.Context, c cursor) (*runner, error) {
	filter, err := newFilter(c)
	if err != nil {
		return nil, &badSubscription{err}
	}
	sink, err := g.open(ctx, c.sub)
	if err != nil {
		return nil, err
	}
	if g.pool.Encoding().Unchecked() {
		sink = sinks.Wrap(sink, onlyUTF8)
	}
	r := newRunner(environment{
		sub: c.sub, cursor: c, sink: sink, feed: g.feed, passes: g.passes, budget: g.budget, log: g.log, health: g.health,
		metrics: g.metrics.runner(c.sub.Name),
		save:    func() { async.Signal(g.saver.urgent) },
		pause:   func(reason string) { g.requestPause(c.sub.Name, reason) },
		parked:  func(state string) { g.metrics.parked.WithLabelValues(c.sub.Name, state).Inc() },
	}, filter, sink.Limits())
	if err := r.loadParked(ctx); err != nil {
		sink.Close()
		return nil, err
	}
	return r, nil
}

// open connects to a subscription's destination.
func (g *generation) open(ctx context.Context, s subscription.Subscription) (sinks.Sink, error) {
	sink, err := g.config.Open(ctx, s)
	if err != nil {
		return nil, lacks(fmt.Errorf("open sink: %w", err))
	}
	return sink, nil
}

func orDefault(n, standard int) int {
	if n > 0 {
		return n
	}
	return max(standard, 1)
}

// loadParked takes in the parked deliveries: their ids are skipped in the log, their keys are blocked.
func (r *runner) loadParked(ctx context.Context) (err error) {
	if r.intake.pass.exclude, err = r.env.passes.db.AnyParked(ctx, r.env.sub.Name); err != nil || !r.intake.pass.exclude {
		return err
	}
	waiting, err := r.env.passes.db.LoadParked(ctx, r.env.sub.Name, r.env.sub.Settings.OnDead == subscription.DeadHolds)
	if err != nil {
		return err
	}
	later, more, err := r.env.passes.db.LoadScheduled(ctx, r.env.sub.Name, store.DistantPast)
	if err != nil {
		return err
	}
	r.retries.scheduled.unseen = len(later)
	if more {
		if r.retries.scheduled.unseen, err = r.env.passes.db.CountScheduled(ctx, r.env.sub.Name); err != nil {
			return err
		}
	}
	next := r.env.entries(later)
	r.retries.takeInParked(r.env.entries(waiting), next)
	r.retries.scheduled.lookFrom(next, more)
	return nil
}

// entries are parked deliveries as their runner knows them.
func (e *environment) entries(rows []store.Parked) []*entry {
	all := make([]*entry, len(rows))
	for i, p := range rows {
		all[i] = &entry{id: p.ID, born: p.Born, xid: p.XID, key: e.order().parkedKey(p.Key), state: p.State, stored: p.State,
			attempts: p.Attempts, due: p.Due, heapIndex: -1}
	}
	return all
}

// takeInParked files what is parked, and lets go what waits for nothing.
func (q *retries) takeInParked(waiting, later []*entry) {
	for _, e := range waiting {
		q.parked.add(e)
		switch {
		case e.state == stateHeld && e.key == "": // it was held under another ordering
			q.load(e)
		case e.state == stateHeld && e.due.Unix() > 0: // it was scheduled, and holds nobody up before its turn comes
			q.parked.change(e, stateScheduled, e.due, "")
		}
	}
	q.addScheduled(later)
	for key := range q.parked.keys {
		q.unblock(key)
	}
}

// doneText is the set as one text, from the columns of a cursor c: its runs with the bounds of their time as PostgreSQL sends them. The
// column done is what relays before this version and rebase have settled, before saved_at.
const doneText = `concat_ws(' ',
	nullif(c.done::text, '{}') || '@8000000000000000@' || encode(timestamptz_send(c.saved_at), 'hex'),
	(SELECT string_agg(concat_ws('@', d.ids, encode(timestamptz_send(d.first), 'hex'), encode(timestamptz_send(d.last), 'hex')), ' ' ORDER BY d.n)
	 FROM unnest(c.done_ids, c.done_first, c.done_last) WITH ORDINALITY d (ids, first, last, n)))`
