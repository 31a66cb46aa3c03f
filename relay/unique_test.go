package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/sinks"
)

// enqueueUnique returns the id and whether the message is a duplicate.
func (s *scene) enqueueUnique(payload, key, scope string) (id int64, duplicate bool) {
	s.t.Helper()
	if err := s.App.QueryRow(s.t.Context(), `SELECT id, duplicate FROM postrider.enqueue_unique('a.b', $1::text::jsonb, $2, $3)`, payload, key, scope).Scan(&id, &duplicate); err != nil {
		s.t.Fatal(err)
	}
	return id, duplicate
}

// A duplicate that comes while the first message may be out is enqueued once that one is settled, however many there were; the last one
// counts.
func TestUniqueAgainAfterSettling(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	out, end := make(chan int64, 10), make(chan error)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		out <- d.ID
		return <-end
	})
	r := s.play()
	first, _ := s.enqueueUnique("1", "k", "pending:a")
	if got := <-out; got != first {
		t.Fatalf("%d is out, want %d", got, first)
	}
	for i := range 5 {
		if id, duplicate := s.enqueueUnique(fmt.Sprint(2+i), "k", "pending:a"); id != first || !duplicate {
			t.Errorf("got %d, %t, want a duplicate of %d", id, duplicate, first)
		}
	}
	end <- nil
	second := <-out
	if payload := scalar[string](s.bench, `SELECT payload::text FROM postrider.outbox WHERE id = $1`, second); second == first || payload != "6" {
		t.Errorf("then came %d with %s, want the last duplicate", second, payload)
	}
	end <- nil
	s.settledAll("a")
	third, duplicate := s.enqueueUnique("7", "k", "pending:a")
	if third <= second || duplicate {
		t.Errorf("after all are settled: got %d, %t", third, duplicate)
	}
	<-out
	end <- nil
	s.settledAll("a")
	r.stop()
	if n := scalar[int](s.bench, `SELECT count(*) FROM postrider.outbox`); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

// While nobody delivers the subscription, a message is pending for sure.
func TestUniqueWhilePaused(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", "{}")
	s.Exec(`SELECT postrider.pause('a')`)
	r := s.play()
	first, _ := s.enqueueUnique("1", "k", "pending:a")
	for range 3 {
		if id, duplicate := s.enqueueUnique("2", "k", "pending:a"); id != first || !duplicate {
			t.Errorf("got %d, %t, want a duplicate of %d", id, duplicate, first)
		}
	}
	s.Exec(`SELECT postrider.resume('a')`)
	s.settledAll("a")
	r.stop()
	if n := len(a.all()); n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
}

// A dead letter frees the key, and a duplicate that came before is enqueued; redrive is refused while the key is taken, and else takes it again.
func TestUniqueAndDeadLetters(t *testing.T) {
	s := newScene(t)
	a := s.cast("a", "{a.>}", `{"max_attempts": 1}`)
	out, end := make(chan int64, 10), make(chan error)
	a.plays(func(_ context.Context, d sinks.Delivery) error {
		out <- d.ID
		return <-end
	})
	s.play()
	first, _ := s.enqueueUnique("1", "k", "pending:a")
	<-out
	s.enqueueUnique("2", "k", "pending:a")
	end <- sinks.Permanent(fmt.Errorf("no"))
	second := <-out
	_, err := s.Admin.Exec(t.Context(), `SELECT postrider.redrive('a')`)
	if want := fmt.Sprintf(`message %d cannot be redriven: its unique key "k" is taken by message %d, which "a" has not settled yet`, first, second); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	end <- nil
	s.shows("a", "delivered", second)
	s.Exec(`SELECT postrider.redrive('a')`)
	if got := <-out; got != first {
		t.Errorf("%d is out, want %d", got, first)
	}
	if id, duplicate := s.enqueueUnique("3", "k", "pending:a"); id != first || !duplicate {
		t.Errorf("got %d, %t, want a duplicate of %d, which is out again", id, duplicate, first)
	}
	end <- nil
	<-out // the duplicate's
	end <- nil
	s.settledAll("a")
}
