package torture

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// letters are messages of which the endpoints refuse some, until these are healed.
type letters struct {
	mu   sync.Mutex
	sick map[int64]bool
	bad  map[int64]bool // those that ever were
}

// write is a kind of producer.
func (l *letters) write(p *producer, ctx context.Context, conn *pgx.Conn) error {
	return p.transact(ctx, conn, func(t *tx) error {
		key := p.key(p.rng.IntN(40))
		for range 3 {
			if p.rng.IntN(25) == 0 {
				l.mark(t.number*txMessages + int64(t.at))
			}
			if err := t.insert(ctx, Message{Topic: "letters.any", Key: key, Order: p.next()}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *letters) mark(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sick[id], l.bad[id] = true, true
}

// heal makes the endpoints accept these messages.
func (l *letters) heal(ids ...int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.sick, id)
	}
}

func (l *letters) healAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.sick)
}

// refuse is what the endpoints do: some messages can never work, others may after some attempts.
func (l *letters) refuse(_ string, body []byte) (int, bool) {
	p, err := parsePayload(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	return []int{422, 500}[p.ID%2], err == nil && l.sick[p.ID]
}

// letter is a row of the parked table.
type letter struct {
	row, id int64
}

func (s *scene) parkedAs(name, state, and string) (list []letter) {
	s.t.Helper()
	rows, err := s.db.admin.Query(s.t.Context(), `SELECT id, (payload->>'id')::bigint FROM postrider.parked p
		WHERE subscription = $1 AND state = $2 AND `+and+` ORDER BY id`, name, state)
	s.need(err)
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l letter, err error) { return l, row.Scan(&l.row, &l.id) })
	s.need(err)
	return list
}

// each runs a command on these messages.
func (s *scene) each(command, name string, list []letter) {
	s.t.Helper()
	args := []string{"parked", command, name}
	for _, l := range list {
		args = append(args, strconv.FormatInt(l.row, 10))
	}
	s.cli(args...)
}

// awaitDead waits until n letters are dead, and returns them.
func (s *scene) awaitDead(name string, n int) (dead []letter) {
	s.t.Helper()
	s.until("letters are dead", func() error {
		if dead = s.parkedAs(name, "dead", "true"); len(dead) < n {
			return fmt.Errorf("%d of %d are", len(dead), n)
		}
		return nil
	})
	return dead
}

// offers counts how often a message was offered.
func (b *book) offers(id int64) (n int) {
	for _, a := range b.all() {
		if a.ID == id {
			n++
		}
	}
	return n
}

// Dead letters that are redriven arrive once, in their key's order if they held it; in vain, they end dead again after as many
// attempts as the first time. What is discarded never arrives, and its key goes on.
func TestRedriveWhileBusy(t *testing.T) {
	t.Parallel()
	l := &letters{sick: make(map[int64]bool), bad: make(map[int64]bool)}
	list := append(kinds("stream", false), kind{"letters", 15 * time.Millisecond, l.write})
	busy(t, Config{Follow: "stream", Relays: 2, NATSServers: 1}, list, func(s *scene) {
		subs := []*subscription{{Expectation: Expectation{Name: "held-mail"}}, {Expectation: Expectation{Name: "mail", Unordered: true}}}
		for i, x := range subs {
			endpoint := s.attend(x)
			endpoint.Poison("/mail", l.refuse)
			s.sql("SELECT postrider.subscribe($1, '{letters.*}', $2, $3, 'earliest')", x.Name, endpoint.URL("/mail"),
				"{"+quick+`, "max_attempts": 2, "on_dead": "`+[]string{"hold", "skip"}[i]+`"}`)
		}
		discarded := make(map[string][]int64)
		for range 2 {
			for _, x := range subs {
				dead := s.awaitDead(x.Name, 8)
				s.inVain(x, dead[0])
				gone := dead[1:3:3]
				if x.Name == "held-mail" { // what is held behind a dead letter stays where it is
					gone = append(gone, s.parkedAs(x.Name, "held", fmt.Sprintf("key = (SELECT key FROM postrider.parked WHERE subscription = p.subscription AND id = %d)", dead[3].row))...)
				}
				for _, g := range gone {
					discarded[x.Name] = append(discarded[x.Name], g.id)
				}
				s.each("discard", x.Name, gone)
				s.goOn(x)
				for _, d := range dead[3:] {
					l.heal(d.id)
				}
				s.each("redrive", x.Name, dead[3:6])
				s.cli("parked", "redrive", x.Name, "--all")
			}
		}
		truth := s.settled()
		l.healAll()
		for _, x := range subs {
			x.Matches = func(m Message) bool { return m.Topic == "letters.any" && !slices.Contains(discarded[x.Name], m.ID) }
			s.until("no letter is dead", func() error {
				n, err := one[int64](s.t.Context(), s.db, "SELECT count(*) FROM postrider.parked WHERE subscription = $1 AND state <> 'discarded'", x.Name)
				if err == nil && n > 0 {
					err = fmt.Errorf("%d are parked", n)
					s.sql("SELECT postrider.redrive($1)", x.Name)
				}
				return err
			})
			s.leave(x, truth)
			x.book = x.book.without(func(a Arrival) bool { return !a.Accepted && slices.Contains(discarded[x.Name], a.ID) })
		}
		s.checkRest(subs[1], truth, func(m Message) bool { return m.Topic == "letters.any" && !l.bad[m.ID] })
	})
}

// goOn waits until no letter is held but behind a dead one.
func (s *scene) goOn(x *subscription) {
	s.t.Helper()
	s.until("keys without a dead letter go on", func() error {
		held := s.parkedAs(x.Name, "held", `NOT EXISTS (SELECT FROM postrider.parked d
			WHERE d.subscription = p.subscription AND d.key = p.key AND d.state IN ('dead', 'retrying'))`)
		if len(held) > 0 {
			return fmt.Errorf("%d letters are held, such as %s", len(held), idString(held[0].id))
		}
		return nil
	})
}

// inVain redrives a letter that is still refused.
func (s *scene) inVain(x *subscription, d letter) {
	s.t.Helper()
	offers := x.book.offers(d.id)
	attempts := 1 + int(d.id%2)
	s.each("redrive", x.Name, []letter{d})
	s.until("it is dead again", func() error {
		if len(s.parkedAs(x.Name, "dead", fmt.Sprintf("id = %d AND attempts = %d AND reason <> ''", d.row, attempts))) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if n := x.book.offers(d.id) - offers; n != attempts {
		s.t.Errorf("%s: message %s was offered %d times more, want %d", x.Name, idString(d.id), n, attempts)
	}
}

// checkRest judges the order of some of a subscription's messages.
func (s *scene) checkRest(x *subscription, t *truth, matches func(Message) bool) {
	s.t.Helper()
	e, f := &evidence{truth: t}, &finding{subscription: x.Name}
	rest := Expectation{Name: x.Name, Matches: matches}
	e.judgeOrder(f, e.wanted(rest), x.book.all())
	for _, v := range f.violations {
		s.t.Error(v)
	}
}
