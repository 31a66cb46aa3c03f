package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/health"
	"github.com/postrider/postrider/relay/internal/async"
	"github.com/postrider/postrider/relay/snapshot"
	"github.com/postrider/postrider/relay/states"
	"github.com/postrider/postrider/relay/store"
)

// saver writes the progress of all runners, one statement at a time.
type saver struct {
	config      *Config
	pool        *dbconn.Pool
	log         *slog.Logger
	health      *health.Health
	metrics     *metrics
	incarnation string
	urgent      chan struct{}
	lost        func(name string) // a cursor was refused

	saving chan struct{} // holds a value during a save: one at a time
	// Items whose rows somebody else had locked: they go first next time. Guarded by saving.
	busy map[*runner]*saveItem

	mu   sync.Mutex
	runs map[string]*runner
}

// saveItem is one cursor's part of a save.
type saveItem struct {
	runner  *runner
	cursor  snapshot.Position
	text    string
	trouble string
	ops     map[snapshot.Ident]*parkOp
}

func (s *saver) add(r *runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[r.env.sub.Name] = r
}

func (s *saver) remove(r *runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs[r.env.sub.Name] == r {
		delete(s.runs, r.env.sub.Name)
	}
}

// run saves at intervals, and at once where a key waits for its parked row.
func (s *saver) run(ctx context.Context) error {
	ticker := time.NewTicker(s.config.SaveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.urgent:
		case <-ticker.C:
		}
		if _, err := s.save(ctx, s.all(), false); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (s *saver) all() []*runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*runner, 0, len(s.runs))
	for _, r := range s.runs {
		all = append(all, r)
	}
	return all
}

// save writes what the runners have to write, again and again until there is an answer or ctx ends. It returns how many cursors
// there were to write, and errLost if the relay's own row is gone.
func (s *saver) save(ctx context.Context, runners []*runner, final bool) (int, error) {
	select {
	case s.saving <- struct{}{}:
		defer func() { <-s.saving }()
	case <-ctx.Done():
		return 0, fmt.Errorf("save progress: %w", ctx.Err())
	}
	items := s.collect(runners, final)
	if len(items) == 0 {
		return 0, nil
	}
	slices.SortFunc(items, func(a, b *saveItem) int { return strings.Compare(a.runner.env.sub.Name, b.runner.env.sub.Name) })
	fates, err := s.insist(ctx, items)
	if err != nil {
		return 0, err
	}
	for _, item := range items {
		s.settle(item, fates[item.runner.env.sub.Name])
	}
	return len(items), nil
}

// saveLast saves what the runner, which has come to rest, has to save. Its base may go on moving while others save: that is worth
// no further save.
func (s *saver) saveLast(ctx context.Context, r *runner) error {
	busy, err := s.isBusy(ctx, r)
	for err == nil {
		old := busy // what is written first may be from before the runner came to rest
		var n int
		if n, err = s.save(ctx, []*runner{r}, true); err != nil || n == 0 {
			return err
		}
		busy, err = s.isBusy(ctx, r)
		switch {
		case !busy && !old && !r.hasParked():
			return err
		case busy && !async.Sleep(ctx, busyRetry):
			return fmt.Errorf("save progress: the cursor is locked by another session: %w", ctx.Err())
		}
	}
	return err
}

// busyRetry is the wait before the last save of a cursor that somebody else has locked is tried again.
const busyRetry = 20 * time.Millisecond

func (s *saver) isBusy(ctx context.Context, r *runner) (bool, error) {
	select {
	case s.saving <- struct{}{}:
		defer func() { <-s.saving }()
		return s.busy[r] != nil, nil
	case <-ctx.Done():
		return false, fmt.Errorf("save progress: %w", ctx.Err())
	}
}

func (s *saver) collect(runners []*runner, final bool) (items []*saveItem) {
	maps.DeleteFunc(s.busy, func(r *runner, _ *saveItem) bool { return r.isGone() })
	for _, r := range runners {
		item := s.busy[r]
		if item == nil {
			item = r.collect(time.Now(), final)
		}
		if item != nil {
			items = append(items, item)
		}
	}
	return items
}

// fate is what became of an item.
type fate int

const (
	fateBusy fate = iota // its rows are locked: the same again next time
	fateSaved
	fateRefused // the cursor is not ours any more, or its history has changed
)

func (s *saver) settle(item *saveItem, f fate) {
	r := item.runner
	delete(s.busy, r)
	switch f {
	case fateSaved:
		r.savedNow(item)
	case fateRefused:
		r.abandon()
		s.lost(r.env.sub.Name)
	case fateBusy:
		if !r.isGone() {
			s.busy[r] = item
		}
	}
}

// insist repeats the same writes until they have an answer: they may have been carried out without one, and are idempotent. What a
// server that works does not carry out is asked of it in halves, down to single cursors: one that cannot be saved is tried again with
// the next save, and delays no other.
func (s *saver) insist(ctx context.Context, items []*saveItem) (map[string]fate, error) {
	retry := async.ReconnectBackoff()
	fates := make(map[string]fate, len(items))
	for most := len(items); len(items) > 0; {
		most = min(most, len(items))
		err := s.write(ctx, items[:most], fates)
		switch {
		case err == nil:
			s.metrics.saves.WithLabelValues("ok").Inc()
			s.health.Works(health.CannotSave)
			for _, item := range items[:most] {
				s.health.Works(health.CannotSave, item.runner.env.sub.Name)
			}
			items = items[most:]
			continue
		case errors.Is(err, store.ErrLost) || isFatal(err) || ctx.Err() != nil:
			return nil, err
		}
		s.metrics.saves.WithLabelValues("error").Inc()
		if store.Unreadable(err) && copyCarefully(items[:most]) {
			s.log.Warn("progress not saved: a message cannot be copied; each is looked at now", "error", err)
			continue
		}
		switch {
		case dberr.Connecting(err):
		case most > 1:
			most = (most + 1) / 2
			continue
		case !dberr.Away(err):
			s.health.Failed(health.CannotSave, err, items[0].runner.env.sub.Name)
			fates[items[0].runner.env.sub.Name] = fateBusy
			items = items[1:]
			continue
		}
		s.health.Failed(health.CannotSave, err)
		if !async.Sleep(ctx, retry.NextBackOff()) {
			return nil, fmt.Errorf("save progress: %w", err)
		}
	}
	return fates, nil
}

// saveStatement saves everything or, cursor by cursor, nothing: rows of subscriptions and cursors are locked in the order of
// names, a cursor that is not this relay's any more is left alone, and so are its parked rows. It waits for nobody's lock: one
// command left open in somebody's session must not delay the others.
var saveStatement = `
WITH input AS (
	SELECT * FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[])
		AS i (name, epoch, base, target, after_id, ids, first, last, trouble)
), locked AS MATERIALIZED (
	SELECT c.subscription FROM input i
	JOIN postrider.subscriptions s ON s.name = i.name
	JOIN postrider.cursors c ON c.subscription = i.name AND c.epoch = i.epoch AND c.owner = $1
	WHERE EXISTS (SELECT FROM postrider.relays WHERE incarnation = $1) AND NOT pg_is_in_recovery()
	ORDER BY i.name FOR KEY SHARE OF s SKIP LOCKED FOR UPDATE OF c SKIP LOCKED
), saved AS (
	UPDATE postrider.cursors c
	SET base = i.base::pg_snapshot, target = i.target::pg_snapshot, after_id = i.after_id, done = '{}',
	    done_ids = i.ids::int8multirange[], done_first = i.first::timestamptz[], done_last = i.last::timestamptz[],
	    trouble = i.trouble, saved_at = now()
	FROM input i JOIN locked l ON l.subscription = i.name
	WHERE c.subscription = i.name AND c.epoch = i.epoch AND c.owner = $1
	RETURNING c.subscription
), inserted AS (
	INSERT INTO postrider.parked (subscription, id, created_at, state, attempts, due, reason, token, lease, xid, topic, key, payload, body, headers)
	SELECT p.subscription, p.id, p.created_at, p.state, p.attempts, coalesce(clock_timestamp() + p.lease * interval '1 microsecond', p.due), p.reason,
	       p.token, p.lease * interval '1 microsecond', p.xid::xid8, p.topic, p.key,
	       coalesce(p.payload::jsonb, m.payload), coalesce(p.body, m.body), coalesce(p.headers::jsonb, m.headers)
	FROM unnest($11::text[], $12::bigint[], $13::timestamptz[], $14::text[], $15::int[], $16::timestamptz[], $17::text[], $18::bigint[],
	            $19::bigint[], $20::text[], $21::text[], $22::text[], $23::text[], $24::bytea[], $25::text[], $26::smallint[])
		AS p (subscription, id, created_at, state, attempts, due, reason, token, lease, xid, topic, key, payload, body, headers, copies)
	JOIN saved USING (subscription)
	LEFT JOIN LATERAL (SELECT * FROM postrider.copied_message(p.id, p.created_at, p.copies = 2) WHERE p.copies IN (1, 2)) m ON true
	ON CONFLICT DO NOTHING
), updated AS (
	UPDATE postrider.parked t SET state = p.state, attempts = p.attempts, updated_at = now(), reason = coalesce(p.reason, t.reason),
	    due = coalesce(clock_timestamp() + p.lease * interval '1 microsecond', p.due),
	    token = coalesce(p.token, t.token), lease = coalesce(p.lease * interval '1 microsecond', t.lease)
	FROM unnest($27::text[], $28::bigint[], $29::timestamptz[], $30::text[], $31::int[], $32::timestamptz[], $33::text[], $34::bigint[], $35::bigint[])
		AS p (subscription, id, created_at, state, attempts, due, reason, token, lease)
	JOIN saved USING (subscription)
	WHERE t.subscription = p.subscription AND t.id = p.id AND t.created_at = p.created_at AND (t.state IN (` + loadable + `)
	    -- What waits for a callback is the receiver's until that came or the lease is over.
	    OR p.state <> '` + states.Leased + `' AND (t.state = '` + states.Failed + `' OR t.state = '` + states.Leased + `' AND t.due <= clock_timestamp()))
), deleted AS (
	DELETE FROM postrider.parked t USING unnest($36::text[], $37::bigint[], $38::timestamptz[]) AS p (subscription, id, created_at)
	JOIN saved USING (subscription)
	WHERE t.subscription = p.subscription AND t.id = p.id AND t.created_at = p.created_at AND t.state <> '` + states.Discarded + `'
)
SELECT array(SELECT subscription FROM saved),
	array(SELECT i.name FROM input i WHERE NOT EXISTS (
		SELECT FROM postrider.cursors c WHERE c.subscription = i.name AND c.epoch = i.epoch AND c.owner = $1)),
	EXISTS (SELECT FROM postrider.relays WHERE incarnation = $1) AND NOT pg_is_in_recovery()`

// write runs the statement once and adds what became of each cursor to fates.
func (s *saver) write(ctx context.Context, items []*saveItem, fates map[string]fate) error {
	var saved, refused []string
	var alive bool
	args := append([]any{s.incarnation}, saveArgs(items, s.pool.Encoding())...)
	err := store.WriteLocal(ctx, s.pool, func(b *pgx.Batch) {
		b.Queue(saveStatement, args...).QueryRow(func(row pgx.Row) error { return row.Scan(&saved, &refused, &alive) })
	})
	if err != nil {
		return err
	}
	if !alive {
		return store.ErrLost
	}
	for _, name := range refused {
		fates[name] = fateRefused
	}
	for _, name := range saved {
		fates[name] = fateSaved
	}
	return nil
}

// copyCarefully makes the next attempt leave out what cannot be copied. It returns false if there is nothing to copy, or if the
// last attempt was made so.
func copyCarefully(items []*saveItem) (changed bool) {
	for _, item := range items {
		for _, op := range item.ops {
			if op.insert != nil && op.copies() == copyThere {
				op.careful, changed = true, true
			}
		}
	}
	return changed
}

// collect returns what there is to save, nil if nothing. Until savedNow or the end of the runner nothing else is saved for it.
func (r *runner) collect(now time.Time, final bool) *saveItem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil
	}
	r.intake.advance()
	item := &saveItem{runner: r, cursor: r.intake.prog.Save(), trouble: r.report.describing}
	if r.intake.prog.Pass == nil && r.intake.pass.resume != nil {
		item.cursor = *r.intake.pass.resume // the pass that it was loaded with has not gone on yet, but parked messages may have
	}
	if final {
		item.trouble = ""
	}
	item.text = item.cursor.String()
	if len(r.retries.parked.ops) == 0 && item.text == r.report.saved && item.trouble == r.report.described {
		return nil
	}
	if !r.intake.dirty && !final && now.Sub(r.report.savedAt) < idleSave {
		return nil
	}
	// What is settled beyond the base goes into it when its window closes: segments wait for bases.
	r.intake.dirty = item.cursor.Target != nil || len(item.cursor.Done) > 0
	r.retries.parked.saving, r.retries.parked.ops = r.retries.parked.ops, make(map[snapshot.Ident]*parkOp)
	item.ops = r.retries.parked.saving
	for _, op := range item.ops {
		op.fix()
	}
	return item
}

// hasParked says whether there are changes of parked messages to save.
func (r *runner) hasParked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.retries.parked.ops) > 0
}

// savedNow takes note that the item was saved.
func (r *runner) savedNow(item *saveItem) {
	r.mu.Lock()
	r.report.saved, r.report.savedAt, r.report.described = item.text, time.Now(), item.trouble
	r.noteDead(item)
	r.retries.acknowledge()
	r.mu.Unlock()
	r.life.wake()
}
