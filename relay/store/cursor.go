package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/subscription"
)

// Cursor is a row of postrider.cursors with its subscription, as this relay has taken it over.
type Cursor struct {
	Part     subscription.Part
	Sub      subscription.Subscription
	Version  int64
	Epoch    int64
	Earlier  []byte
	Position snapshot.Position
	Trouble  string

	Settings []byte // as they are in the table
}

// cursorColumns belong to rawCursor; s is the subscription, c the cursor. They are of types that take whatever the columns hold: a row
// that cannot be read would fail the statement for all.
const cursorColumns = `s.name, c.shard, c.class, to_jsonb(s.topics)::text, s.sink, s.settings::text, s.version, s.earlier::text,
	c.epoch, c.base::text, c.target::text, c.after_id, ` + doneText + `,
	pg_snapshot_xmax(coalesce(c.target, c.base)) <= pg_snapshot_xmax(pg_current_snapshot()), coalesce(c.trouble, '')`

// rawCursor is a cursor as its row has it.
type rawCursor struct {
	part                    subscription.Part
	topics, sink, settings  *string
	earlier                 *string
	version, epoch, afterID *int64
	base, target, done      *string
	trouble                 string
	past                    *bool // its snapshots are of this server's past
}

func scanCursor(scan func(...any) error) (c rawCursor, err error) {
	return c, scan(&c.part.Subscription, &c.part.Shard, &c.part.Class, &c.topics, &c.sink, &c.settings, &c.version, &c.earlier, &c.epoch, &c.base, &c.target, &c.afterID, &c.done, &c.past, &c.trouble)
}

// parse says what the cursor holds, or why it cannot be used. The settings are left for later.
func (r *rawCursor) parse() (c Cursor, err error) {
	c = Cursor{Part: r.part, Sub: subscription.Subscription{Name: r.part.Subscription, Sink: textOf(r.sink)}, Earlier: []byte(textOf(r.earlier)), Trouble: r.trouble}
	if r.version == nil || r.epoch == nil || r.past == nil {
		return c, errors.New("version, epoch and base: none may be null")
	}
	c.Version, c.Epoch, c.Settings = *r.version, *r.epoch, []byte(textOf(r.settings))
	if err := json.Unmarshal([]byte(textOf(r.topics)), &c.Sub.Topics); err != nil {
		return c, fmt.Errorf("topics %s: must be a list of patterns: %w", textOf(r.topics), err)
	}
	if c.Position.Base, err = snapshot.Parse(textOf(r.base)); err != nil {
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
		c.Position.Target, c.Position.AfterID = &t, *r.afterID
	}
	if !*r.past {
		return c, fmt.Errorf("base %s, target %s: transactions that this server has not seen yet: `postrider subs replay` sets the cursor anew",
			textOf(r.base), orDefaultText(r.target, "none"))
	}
	if c.Position.Done, err = snapshot.ParseDoneSet(textOf(r.done)); err != nil {
		return c, fmt.Errorf("done: %w", err)
	}
	return c, nil
}

func textOf(s *string) string { return orDefaultText(s, "") }

func orDefaultText(s *string, standard string) string {
	if s == nil {
		return standard
	}
	return *s
}

// doneText is the set as one text, from the columns of a cursor c: its runs with the bounds of their time as PostgreSQL sends them. The
// column done is what a rebase has settled, before saved_at.
const doneText = `concat_ws(' ',
	nullif(c.done::text, '{}') || '@8000000000000000@' || encode(timestamptz_send(c.saved_at), 'hex'),
	(SELECT string_agg(concat_ws('@', d.ids, encode(timestamptz_send(d.first), 'hex'), encode(timestamptz_send(d.last), 'hex')), ' ' ORDER BY d.n)
	 FROM unnest(c.done_ids, c.done_first, c.done_last) WITH ORDINALITY d (ids, first, last, n)))`
