package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/sinks"
)

type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// replaceUnique enqueues a message that takes the key k of the subscription a.
func (s *scene) replaceUnique(q rowQuerier, payload string, wait time.Duration) (id int64) {
	s.t.Helper()
	var duplicate bool
	if err := q.QueryRow(s.t.Context(), `SELECT id, duplicate FROM postrider.enqueue_unique('a.b', $1::text::jsonb, 'k', 'pending:a', deliver_at => now() + $2, unique_replace => true)`,
		payload, wait).Scan(&id, &duplicate); err != nil {
		s.t.Fatal(err)
	}
	if duplicate {
		s.t.Errorf("%d is a duplicate", id)
	}
	return id
}

// Called again and again, it delivers the last message alone.
func TestUniqueReplaceDebounces(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	r := s.play()
	var ids []int64
	for i := range 20 {
		wait := time.Hour
		if i == 19 {
			wait = time.Millisecond
		}
		ids = append(ids, s.replaceUnique(s.App, fmt.Sprint(i), wait))
	}
	last := ids[19]
	s.shows("a", "delivered", last)
	s.shows("a", "cancelled", ids[:19]...)
	r.stop()
	if got := a.delivered(); !slices.Equal(got, []int64{last}) {
		t.Errorf("delivered are %v, want %d", got, last)
	}
	for i, id := range ids[:19] {
		if got := scalar[string](s.bench, `SELECT reason FROM postrider.parked WHERE id = $1`, id); got != fmt.Sprintf("superseded by message %d", ids[i+1]) {
			t.Errorf("the reason of %d is %s", id, got)
		}
	}
}

// Whoever works on a message goes on, also if he has taken it and will call back; a duplicate of it that waits is superseded, too.
func TestUniqueReplaceOfWhatIsOut(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	out, end := make(chan int64, 10), make(chan error)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		if string(d.Payload) != "1" {
			return nil
		}
		out <- d.ID
		return <-end
	})
	s.play()
	for _, outcome := range []string{"accepted", "taken", "taken before"} {
		first, _ := s.enqueueUnique("1", "k", "pending:a")
		<-out
		if outcome == "taken before" {
			end <- sinks.Leased(time.Hour, 7)
			s.shows("a", "leased", first)
		}
		if id, duplicate := s.enqueueUnique("2", "k", "pending:a"); id != first || !duplicate {
			t.Errorf("got %d, %t, want a duplicate of %d", id, duplicate, first)
		}
		second := s.replaceUnique(s.App, "3", 0)
		eventually(t, "the relay knows", func() bool {
			return scalar[int](s.bench, `SELECT count(*) FROM postrider.cancels WHERE seen IS NULL`) == 0
		})
		s.shows("a", "delivered", second) // so that the relay has come by what it was asked for
		switch outcome {
		case "accepted":
			end <- nil
		case "taken":
			end <- sinks.Leased(time.Hour, 7)
			s.shows("a", "leased", first)
		}
		if outcome != "accepted" && !scalar[bool](s.bench, `SELECT postrider.complete('a', $1, 7)`, first) {
			t.Errorf("%s: the callback does not count", outcome)
		}
		s.shows("a", "delivered", first)
	}
	if n := scalar[int](s.bench, `SELECT count(*) FROM postrider.unique_again`) + scalar[int](s.bench, `SELECT count(*) FROM postrider.outbox WHERE payload = '2'`); n != 0 {
		t.Error("a duplicate was not superseded")
	}
}

// What fails after it was superseded is not tried again.
func TestUniqueReplaceOfWhatFails(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", `{"backoff_initial": "1h"}`)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		if d.Topic == "a.b" {
			return sinks.Failed(errScene, 0)
		}
		return nil
	})
	s.play()
	first, _ := s.enqueueUnique("1", "k", "pending:a")
	s.shows("a", "retrying", first)
	second := s.replaceUnique(s.App, "2", 0)
	s.shows("a", "cancelled", first)
	s.shows("a", "retrying", second)
}

// Until the COMMIT of what supersedes it a message may die: it is not redriven while the other one has the key. A rollback leaves all as it was.
func TestUniqueReplaceOfWhatDies(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	out, end := make(chan int64, 10), make(chan error)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		out <- d.ID
		return <-end
	})
	s.play()
	first, _ := s.enqueueUnique("1", "k", "pending:a")
	<-out
	for _, commit := range []bool{false, true} {
		tx, err := s.App.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second := s.replaceUnique(tx, "2", time.Hour)
		if !commit {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if id, duplicate := s.enqueueUnique("3", "k", "pending:a"); id != first || !duplicate {
				t.Errorf("after the rollback: got %d, %t, want a duplicate of %d", id, duplicate, first)
			}
			continue
		}
		end <- sinks.Permanent(errScene)
		s.shows("a", "dead", first)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = s.Admin.Exec(t.Context(), `SELECT postrider.redrive('a')`)
		if want := fmt.Sprintf(`message %d cannot be redriven: its unique key "k" is taken by message %d`, first, second); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
