package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/outbox/topic"
)

// turn is a change of topics.
type turn struct {
	before   []string // the topics that apply to what until sees
	until    string   // a snapshot
	from, to time.Time
}

// visible tells of every transaction of the producers which is the first of these snapshots that sees it; their number: none.
// PostgreSQL decides.
func (s *scene) visible(snapshots []string) map[int64]int {
	s.t.Helper()
	rows, err := s.db.admin.Query(s.t.Context(), `SELECT number, coalesce((SELECT n::int - 1 FROM unnest($1::text[]) WITH ORDINALITY u (snapshot, n)
		WHERE pg_visible_in_snapshot(xid, snapshot::pg_snapshot) ORDER BY n LIMIT 1), cardinality($1)) FROM torture.tx`, snapshots)
	s.need(err)
	first := make(map[int64]int)
	var number int64
	var n int
	_, err = pgx.ForEachRow(rows, []any{&number, &n}, func() error { first[number] = n; return nil })
	s.need(err)
	return first
}

// apply writes a file with one subscription, and applies it as an operator does.
func (s *scene) apply(name, sink string, topics []string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name+".yaml")
	text := fmt.Sprintf("subscriptions:\n  - name: %s\n    topics: [%q]\n    sink: %s\n    backoff_initial: 50ms\n    lanes: 8\n",
		name, strings.Join(topics, `", "`), sink)
	s.need(os.WriteFile(file, []byte(strings.ReplaceAll(text, `\"`, `"`)), 0o600))
	s.cli("subs", "apply", file)
}

// turnTo changes topics and waits until a relay goes by the new ones.
func (s *scene) turnTo(name, sink string, topics []string, byFile bool) turn {
	s.t.Helper()
	before := value[[]string](s.t, s.world, "SELECT topics FROM postrider.subscriptions WHERE name = $1", name)
	from := time.Now()
	if byFile {
		s.apply(name, sink, topics)
	} else {
		s.sql("UPDATE postrider.subscriptions SET topics = $2 WHERE name = $1", name, topics)
	}
	until := value[string](s.t, s.world, "SELECT earlier -> -1 ->> 'until' FROM postrider.subscriptions WHERE name = $1", name)
	u := turn{before: before, until: until, from: from}
	s.until("the change is noticed", func() (err error) {
		u.to, err = s.delivering(name, topics)
		return err
	})
	s.incident(Incident{Fault: "topics", From: u.from, To: u.to, Repeats: []string{name}}) // what was not saved is void
	s.say("%s turned to %v within %v", name, topics, u.to.Sub(u.from).Round(time.Millisecond))
	return u
}

// delivering returns since when a relay goes by these topics, by its log.
func (s *scene) delivering(name string, topics []string) (since time.Time, err error) {
	logs, err := filepath.Glob(filepath.Join(s.dir, "relay-*.log"))
	if err != nil {
		return since, err
	}
	line := regexp.MustCompile(`time=(\S+) level=INFO msg=delivering subscription=` + name + ` topics="?` + regexp.QuoteMeta(fmt.Sprint(topics)) + `"?\n`)
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			return since, err
		}
		if m := line.FindSubmatch(text); m != nil {
			return time.Parse(time.RFC3339Nano, string(m[1]))
		}
	}
	return since, fmt.Errorf("no relay delivers %v yet", topics)
}

// A change of topics applies forward only: to each message apply the topics of the time at which its transaction was not over
// yet, whenever it is delivered. Until the relay notices, it may deliver some more by the old ones; then that is void, and all that
// is wanted comes, in order.
func TestTopicsWhileBusy(t *testing.T) {
	t.Parallel()
	busy(t, Config{Follow: "stream", Relays: 2, NATSServers: 1}, kindsBut("poison"), func(s *scene) {
		x := &subscription{Expectation: Expectation{Name: "turns"}}
		sink := s.attend(x).URL("/turns")
		s.apply("turns", sink, []string{"orders.>"})
		turns := []turn{{nil, value[string](t, s.world, "SELECT started::text FROM postrider.subscriptions WHERE name = 'turns'"), time.Now(), time.Now()}}
		for i, topics := range [][]string{
			{"users.*"}, {"orders.created", "users.created"}, {"audit.>", "orders.paid"}, {"users.deleted"}, {">"}, {"orders.>", "strict.step"},
		} {
			s.more(x, 30)
			turns = append(turns, s.turnTo("turns", sink, topics, i%2 == 0))
		}
		s.more(x, 30)
		truth := s.settled()
		wants := s.byTurns(turns, []string{"orders.>", "strict.step"})
		x.Matches = func(m Message) bool { return wants(m, -1) }
		s.leave(x, truth)
		x.book = x.book.without(func(a Arrival) bool { // what a relay delivered of what came after a change that it had not noticed
			m := truth.messages[a.ID]
			return slices.ContainsFunc(turns[1:], func(u turn) bool {
				at := slices.IndexFunc(turns, func(v turn) bool { return v.until == u.until })
				return a.At.Before(u.to) && wants(m, at)
			})
		})
	})
}

// byTurns returns what tells whether a message is wanted by the topics that apply to its transaction (-1), or would be by those that
// a turn replaced of which its transaction came too late.
func (s *scene) byTurns(turns []turn, last []string) func(m Message, at int) bool {
	s.t.Helper()
	var snapshots []string
	var lists []*topic.Matcher
	for _, u := range append(slices.Clone(turns), turn{before: last}) {
		matcher, err := topic.NewMatcher(append([]string{"none"}, u.before...))
		s.need(err)
		snapshots, lists = append(snapshots, u.until), append(lists, matcher)
	}
	first := s.visible(snapshots[:len(turns)])
	return func(m Message, at int) bool {
		applies := first[m.ID/txMessages]
		if at < 0 {
			return lists[applies].Match(m.Topic)
		}
		return at < applies && lists[at].Match(m.Topic)
	}
}

// without returns a copy that lacks some arrivals.
func (b *book) without(drop func(Arrival) bool) *book {
	c := newBook()
	c.add(slices.DeleteFunc(slices.Clone(b.all()), drop)...)
	return c
}

// A subscription that a transaction makes gets that transaction's messages, also those from before it was made, and of the others
// those that its snapshot does not see: each once. Nothing is left of it if the transaction rolls back.
func TestSubscribeAndEnqueueWhileBusy(t *testing.T) {
	t.Parallel()
	busy(t, Config{Follow: "stream", Relays: 2, NATSServers: 1}, kinds("stream", false), func(s *scene) {
		conn, err := connect(t.Context(), s.db.url("postgres"))
		s.need(err)
		defer closeConn(conn)
		p := &producer{producers: s.apps, name: "founder"}
		var fresh []*subscription
		var started []string
		var numbers []int64
		for i := range 5 {
			x := &subscription{Expectation: Expectation{Name: fmt.Sprintf("fresh-%d", i)}}
			sink := s.attend(x).URL("/fresh")
			var start string
			var number int64
			err := p.transact(t.Context(), conn, func(tx *tx) error {
				m := func() Message { return Message{Topic: "orders.created", Key: p.key(0), Order: p.next()} }
				number = tx.number
				err := tx.insert(t.Context(), m(), m())
				s.more(s.sub("once"), 5) // others commit before, meanwhile, and after
				if err == nil {
					_, err = conn.Exec(t.Context(), "SELECT postrider.subscribe($1, '{orders.>}', $2, $3)", x.Name, sink, "{"+quick+"}")
				}
				if err == nil {
					err = conn.QueryRow(t.Context(), "SELECT started::text FROM postrider.subscriptions WHERE name = $1", x.Name).Scan(&start)
				}
				s.more(s.sub("once"), 5)
				if err == nil {
					err = tx.insert(t.Context(), m(), m())
				}
				if err == nil && i == 3 {
					err = errRollback
				}
				return err
			})
			s.need(err)
			if i == 3 {
				s.nothing(t, "subscriptions that were rolled back", "SELECT name FROM postrider.subscriptions WHERE name = $1", x.Name)
				continue
			}
			s.more(x, 4)
			fresh, started, numbers = append(fresh, x), append(started, start), append(numbers, number)
		}
		truth := s.settled()
		for i, x := range fresh {
			seen := s.visible(started[i : i+1])
			x.Matches = func(m Message) bool {
				number := m.ID / txMessages
				return strings.HasPrefix(m.Topic, "orders.") && (seen[number] == 1 || number == numbers[i])
			}
			s.leave(x, truth)
		}
	})
}
