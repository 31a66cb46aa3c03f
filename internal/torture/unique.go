package torture

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// uniqueScope is what producers ask for with a unique key.
type uniqueScope struct {
	name    string // of the topic
	scope   string
	lasts   time.Duration // the key is taken for a time
	replace bool          // the latest takes the place of those before it, most of the time
	keys    int
}

// uniqueScopes are those that there are.
var uniqueScopes = []uniqueScope{
	{name: "effect.once", scope: "pending:" + effects, keys: 6},
	{name: "effect.span", scope: "700 milliseconds", lasts: 700 * time.Millisecond, keys: 4},
	{name: "effect.last", scope: "pending:" + effects, replace: true, keys: 5},
}

// uniqueCall is a message that was enqueued with a unique key, and what its producer was answered.
type uniqueCall struct {
	id        int64 // the message's number
	key       string
	scope     uniqueScope
	replace   bool
	from      time.Time // before it was asked
	row       int64     // that was answered
	duplicate bool
}

// longestDue is the longest time that a message with a unique key waits for its time.
const longestDue = 5 * time.Second

// writeUnique enqueues a message with a key that others have, too, and sometimes thinks better of it.
func writeUnique(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		perhaps := func() error {
			pause(ctx, time.Duration(p.rng.IntN(10))*time.Millisecond)
			if p.rng.IntN(6) == 0 {
				return errRollback
			}
			return nil
		}
		if p.rng.IntN(4) == 0 {
			err := t.savepoint(ctx, "perhaps", func() error { return errorsFirst(t.enqueueUnique(ctx), perhaps) })
			if err == nil && p.rng.IntN(2) == 0 {
				return perhaps()
			}
			return err
		}
		return errorsFirst(t.enqueueUnique(ctx), perhaps)
	})
}

// enqueueUnique makes one call.
func (t *tx) enqueueUnique(ctx context.Context) error {
	rng := t.p.rng
	scope := uniqueScopes[rng.IntN(len(uniqueScopes))]
	n := rng.IntN(scope.keys)
	c := uniqueCall{id: t.number*txMessages + int64(t.at), key: fmt.Sprintf("%s-%d", scope.name, n), scope: scope, replace: scope.replace && rng.IntN(5) > 0, from: time.Now()}
	t.at++
	var due any
	switch {
	case scope.replace && n == 0:
		due = time.Now().Add(longestDue)
	case scope.replace:
		due = time.Now().Add(time.Duration(rng.IntN(2000)) * time.Millisecond)
	}
	text := Message{ID: c.id, Unique: c.key}.payload()
	err := t.conn.QueryRow(ctx, "SELECT id, duplicate FROM postrider.enqueue_unique($1, $2::text::jsonb, unique_key => $3, unique_scope => $4, deliver_at => $5, unique_replace => $6)",
		scope.name, text, c.key, scope.scope, due, c.replace).Scan(&c.row, &c.duplicate)
	if err == nil {
		t.calls = append(t.calls, c)
	}
	return err
}

// uniqueRow is a message with a unique key that the log held.
type uniqueRow struct {
	logRow
	call uniqueCall // the one whose message it is
}

// uniques are the messages with unique keys, as producers, the log and the endpoint saw them.
type uniques struct {
	*evidence
	made       map[int64]uniqueCall // whose messages they are
	rows       map[int64]uniqueRow  // by row
	keys       map[string][]uniqueRow
	offered    map[int64]time.Time
	taken      map[int64][]time.Time
	last       map[string]time.Time // when a message of the key was last accepted
	violations []string
}

func (u *uniques) violate(key, format string, args ...any) {
	u.violations = append(u.violations, "unique key "+key+": "+fmt.Sprintf(format, args...))
}

// judgeUnique finds messages that were lost or doubled although their producers were answered otherwise.
func (e *evidence) judgeUnique(arrivals []Arrival) []string {
	u := &uniques{evidence: e, made: make(map[int64]uniqueCall), rows: make(map[int64]uniqueRow), keys: make(map[string][]uniqueRow), last: make(map[string]time.Time)}
	u.offered, u.taken = seen(arrivals)
	for _, c := range e.truth.calls {
		u.made[c.id] = c
	}
	times := make(map[int64]int)
	for _, r := range e.truth.log {
		c, ok := u.made[r.messageID]
		if !ok {
			continue
		}
		if times[c.id]++; times[c.id] == 2 {
			u.violate(c.key, "message %s was enqueued twice", idString(c.id))
		}
		u.rows[r.Row] = uniqueRow{r, c}
		u.keys[c.key] = append(u.keys[c.key], u.rows[r.Row])
	}
	for id, at := range u.taken {
		if c, ok := u.made[id]; ok && at[len(at)-1].After(u.last[c.key]) {
			u.last[c.key] = at[len(at)-1]
		}
	}
	for _, c := range e.truth.calls {
		u.judgeAnswer(c)
	}
	for _, list := range u.keys {
		for i := 1; i < len(list); i++ {
			u.judgePair(list[i-1], list[i])
		}
	}
	return u.violations
}

// judgeAnswer compares what a producer was told with what became of it.
func (u *uniques) judgeAnswer(c uniqueCall) {
	r, ok := u.rows[c.row]
	switch {
	case !ok || r.call.key != c.key:
		u.violate(c.key, "the answer to message %s was row %d, which the log never held with this key", idString(c.id), c.row)
	case !c.duplicate && r.messageID != c.id:
		u.violate(c.key, "message %s was answered to be new, but row %d is message %s", idString(c.id), c.row, idString(r.messageID))
	case c.duplicate && c.replace:
		u.violate(c.key, "message %s was answered to be a duplicate, but was to replace", idString(c.id))
	case c.duplicate && c.scope.lasts > 0 && r.At.Add(c.scope.lasts+slowInsert).Before(c.from):
		u.violate(c.key, "message %s was answered to be a duplicate at %s, but the key was taken at %s", idString(c.id), clock(c.from), clock(r.At))
	case c.duplicate && c.scope.lasts == 0:
		u.judgeDuplicate(c, r)
	}
}

// judgeDuplicate finds duplicates of which nothing came: what they are duplicates of had been delivered.
func (u *uniques) judgeDuplicate(c uniqueCall, r uniqueRow) {
	switch {
	case !u.last[c.key].After(c.from):
		u.violate(c.key, "message %s was a duplicate at %s, but nothing was delivered after that", idString(c.id), clock(c.from))
	case doneBefore(u.taken[r.messageID], c.from) && !again(u.keys[c.key], c.from):
		u.violate(c.key, "message %s was a duplicate at %s, when %s had been delivered, and was not enqueued again", idString(c.id), clock(c.from), idString(r.messageID))
	}
}

// doneBefore reports whether a message was accepted before a moment.
func doneBefore(accepted []time.Time, at time.Time) bool {
	return len(accepted) > 0 && accepted[0].Before(at)
}

// again reports whether a duplicate was enqueued after a moment, or superseded.
func again(rows []uniqueRow, from time.Time) bool {
	return slices.ContainsFunc(rows, func(r uniqueRow) bool { return r.At.After(from) && (r.call.duplicate || r.call.replace) })
}

// seen returns when each message was offered first, and when it was accepted.
func seen(arrivals []Arrival) (offered map[int64]time.Time, taken map[int64][]time.Time) {
	offered, taken = make(map[int64]time.Time), make(map[int64][]time.Time)
	for _, a := range arrivals {
		if _, ok := offered[a.ID]; !ok {
			offered[a.ID] = a.At
		}
		if a.Accepted {
			taken[a.ID] = append(taken[a.ID], a.At)
		}
	}
	return offered, taken
}

// noticed is longer than it takes a relay to notice that a message was superseded.
const noticed = longestDue - 500*time.Millisecond

// judgePair says what is wrong with two messages of one key, one after the other.
func (u *uniques) judgePair(before, next uniqueRow) {
	key, accepted, done := before.call.key, u.taken[before.messageID], u.truth.committed[next.messageID]
	first, came := u.offered[before.messageID]
	switch {
	case before.call.scope.lasts > 0:
		if gap := next.At.Sub(before.At); gap < before.call.scope.lasts {
			u.violate(key, "messages %s and %s within %v, at %s", idString(before.messageID), idString(next.messageID), gap, clock(next.At))
		}
	case !next.call.replace:
		if !doneBefore(accepted, next.At) {
			u.violate(key, "message %s was inserted at %s while %s was standing", idString(next.messageID), clock(next.At), idString(before.messageID))
		}
	case came && !done.IsZero() && first.After(done.Add(noticed)) && !u.blinded(done, first):
		u.violate(key, "message %s was superseded by %s at %s, and delivered at %s", idString(before.messageID), idString(next.messageID), clock(done), clock(first))
	}
}

// blinded reports whether a relay may not have seen between these times what is in the database.
func (e *evidence) blinded(from, to time.Time) bool {
	for _, i := range e.incidents {
		if (i.Hits == onDatabase || i.Hits == onNetwork || i.Fault == "pause") && i.From.Before(to) && i.To.Add(moment).After(from) {
			return true
		}
	}
	return false
}
