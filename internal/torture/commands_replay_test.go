package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// open begins a transaction with a few messages of one key, and returns what commits it and tells their ids.
func (s *scene) open(name string) (commit func() (ids []int64)) {
	s.t.Helper()
	conn, err := connect(s.t.Context(), s.db.url("app"))
	s.need(err)
	one := &producer{producers: s.apps, name: name}
	open, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var messages []Message
	go func() {
		defer closeConn(conn)
		done <- one.transact(context.WithoutCancel(s.t.Context()), conn, func(t *tx) error {
			m := func() Message { return Message{Topic: "orders.created", Key: one.key(0), Order: one.next()} }
			err := t.insert(s.t.Context(), m(), m(), m())
			messages = t.messages
			close(open)
			select {
			case <-release:
				return err
			case <-s.t.Context().Done():
				return errors.Join(err, errRollback)
			}
		})
	}()
	<-open
	return func() (ids []int64) {
		s.t.Helper()
		close(release)
		s.need(<-done)
		for _, m := range messages {
			ids = append(ids, m.ID)
		}
		return ids
	}
}

// setBack is a replay, and what it must bring again.
type setBack struct {
	at    time.Time
	again map[int64]bool // messages that the new base does not see and that are there still
}

// setBack replays from a start, and reads in the same transaction what that means.
func (s *scene) setBack(name, start string) (b setBack) {
	s.t.Helper()
	b = setBack{time.Now(), make(map[int64]bool)}
	var ids []int64
	s.need(pgx.BeginFunc(s.t.Context(), s.db.admin, func(tx pgx.Tx) error {
		if _, err := tx.Exec(s.t.Context(), "SELECT postrider.replay($1, $2)", name, start); err != nil {
			return err
		}
		return tx.QueryRow(s.t.Context(), `SELECT array(SELECT (o.payload->>'id')::bigint FROM postrider.outbox o, postrider.cursors c
			WHERE c.subscription = $1 AND NOT pg_visible_in_snapshot(o.xid, c.base))`, name).Scan(&ids)
	}))
	s.incident(Incident{Fault: "replay", From: b.at, To: time.Now(), Repeats: []string{name}, Replays: true})
	for _, id := range ids {
		b.again[id] = true
	}
	s.say("%s is set back to %s, behind %d messages", name, start, len(ids))
	return b
}

// comesAgain waits until all that had been accepted before, and is not behind the new base, has been accepted again.
func (s *scene) comesAgain(x *subscription, b setBack) {
	s.t.Helper()
	s.until(x.Name+" gets all again", func() error {
		before, after := acceptedAround(x.book.all(), b.at)
		for id := range before {
			if b.again[id] && !after[id] {
				return fmt.Errorf("message %s did not come again", idString(id))
			}
		}
		return nil
	})
}

// acceptedAround tells which messages were accepted before and after a time.
func acceptedAround(arrivals []Arrival, at time.Time) (before, after map[int64]bool) {
	before, after = make(map[int64]bool), make(map[int64]bool)
	for _, a := range arrivals {
		switch {
		case !a.Accepted:
		case a.At.Before(at):
			before[a.ID] = true
		default:
			after[a.ID] = true
		}
	}
	return before, after
}

// progressed waits until everything that is visible now counts as settled.
func (s *scene) progressed(x *subscription) {
	s.t.Helper()
	now := value[string](s.t, s.world, "SELECT pg_current_snapshot()::text")
	s.until(x.Name+" has saved its progress", func() error {
		done, err := one[bool](s.t.Context(), s.db, "SELECT postrider.snapshot_covers(base, $2::pg_snapshot) FROM postrider.cursors WHERE subscription = $1", x.Name, now)
		if err == nil && !done {
			err = errors.New("its base is older")
		}
		return err
	})
}

// checkSuffixes finds keys that were not repeated in order: after each replay their messages ascend.
func (s *scene) checkSuffixes(x *subscription, t *truth, replays int) {
	last, drops := make(map[string]Message), make(map[string]int)
	for _, a := range x.book.all() {
		m := t.messages[a.ID]
		if m.Key == "" || !a.Accepted {
			continue
		}
		if was, ok := last[m.Key]; ok && m.Order < was.Order {
			if drops[m.Key]++; drops[m.Key] > replays {
				s.t.Errorf("%s after %s: key %q went back more than %d times", m, was, m.Key, replays)
			}
		}
		last[m.Key] = m
	}
}

// A replay to a time brings again what came from then on, and nothing that its base sees. Transactions that are open then
// come when they commit, and what was pending, for the destination was away, comes also if it is older than that time.
func TestReplayWhileBusy(t *testing.T) {
	t.Parallel()
	busy(t, Config{Follow: "stream", Relays: 2, NATSServers: 1}, kinds("stream", false), func(s *scene) {
		x := &subscription{Expectation: Expectation{Name: "again"}}
		endpoint := s.attend(x)
		x.Matches = s.sub("hooks").Matches
		s.sql("SELECT postrider.subscribe('again', $1, $2, $3, 'earliest')", s.sub("hooks").topics, endpoint.URL("/again"), "{"+quick+"}")
		s.more(x, 100)
		late, open := s.open("late"), s.open("open")
		s.more(x, 200)
		since := value[time.Time](t, s.world, "SELECT clock_timestamp()")
		s.more(x, 100)
		s.progressed(x)
		endpoint.Refuse()
		pending := late()
		first := s.setBack("again", since.Format(time.RFC3339Nano))
		s.need(endpoint.Open())
		s.more(x, 200)
		pending = append(pending, open()...)
		s.comesAgain(x, first)
		s.until("what was pending or open arrives", func() error {
			if n := x.book.missing(pending); n > 0 {
				return fmt.Errorf("%d of %d messages are missing", n, len(pending))
			}
			return nil
		})
		s.checkOnlyAgain(x, first)

		second := s.setBack("again", "earliest")
		s.more(x, 200)
		s.comesAgain(x, second)
		at := time.Now()
		s.cli("subs", "replay", "again", "--start", "earliest")
		s.incident(Incident{Fault: "replay", From: at, To: time.Now(), Repeats: []string{"again"}, Replays: true})
		s.more(x, 200)
		truth := s.settled()
		s.leave(x, truth)
		s.checkSuffixes(x, truth, 3)
	})
}

// checkOnlyAgain finds messages that a replay brought again although its base sees them.
func (s *scene) checkOnlyAgain(x *subscription, b setBack) {
	s.t.Helper()
	seen := make(map[int64]time.Time)
	for _, a := range slices.DeleteFunc(slices.Clone(x.book.all()), func(a Arrival) bool { return !a.Accepted }) {
		if was, ok := seen[a.ID]; ok && !b.again[a.ID] && was.Before(b.at) {
			s.t.Errorf("message %s came at %s and again at %s, though it is behind the base", idString(a.ID), clock(was), clock(a.At))
		}
		seen[a.ID] = a.At
	}
}
