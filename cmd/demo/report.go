package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// recent is how far the live figures' delays reach back.
const recent = 2 * time.Second

// subscription is what the demo knows of one.
type subscription struct{ name, topics, settings string }

// wants is the demo's own idea of which topics match: that of the NATS server.
func (s subscription) wants(topic string) bool { return server.SubjectMatchesFilter(topic, s.topics) }

// view is how one subscription stands by both accounts: the demo's and Postrider's.
type view struct {
	subscription
	tally
	standing
}

// status is one look at everything.
type status struct {
	views                 []view
	committed, rolledBack int
}

func (s status) all(ok func(view) bool) bool {
	for _, v := range s.views {
		if !ok(v) {
			return false
		}
	}
	return true
}

// delivered reports whether each message was delivered.
func (s status) delivered() bool {
	return s.all(func(v view) bool { return v.delivered == v.committed })
}

// settled reports whether each message was delivered or buried.
func (s status) settled() bool {
	return s.all(func(v view) bool { return v.delivered+v.Dead >= v.committed })
}

// summary is the status in one line: delivered, under way, median delay.
func (s status) summary() string {
	line := fmt.Sprintf("committed %d", s.committed)
	for _, v := range s.views {
		line += fmt.Sprintf(" | %s %d", v.name, v.delivered)
		if left := v.committed - v.delivered - v.Scheduled - v.Dead; left > 0 {
			line += fmt.Sprintf(" +%d", left)
		} else if v.Dead > 0 {
			line += fmt.Sprintf(" (%d dead)", v.Dead)
		}
		line += " " + short(v.p50)
	}
	return line
}

// panel is the status as a table. Delays are those of the last moments.
func (s status) panel(shop *shop) []string {
	rows := [][]string{{"subscription", "topics", "committed", "delivered", "left", "retry", "held", "later", "dead", "p50", "p99"}}
	var trouble []string
	for _, v := range s.views {
		rows = append(rows, append(append([]string{v.name, v.topics},
			digits(v.committed, v.delivered, v.committed-v.delivered, v.Retrying, v.Held, v.Scheduled, v.Dead)...),
			short(v.p50), short(v.p99)))
		if v.Trouble != "" {
			trouble = append(trouble, "", "  "+v.name+": "+v.Trouble)
		}
	}
	head := fmt.Sprintf("  %d orders placed, %d paid, %d cards declined; messages: %d committed, %d rolled back",
		shop.placed.Load(), shop.paid.Load(), shop.declined.Load(), s.committed, s.rolledBack)
	return append(append([]string{"", head, ""}, table(2, rows)...), trouble...)
}

// result is the table at the end. Delays are those of the whole run.
func (s status) result(buried map[string]int) []string {
	rows := [][]string{{"subscription", "committed", "delivered", "twice", "retried", "buried", "rolled back", "disorder", "p50", "p99"}}
	for _, v := range s.views {
		rows = append(rows, append(append([]string{v.name},
			digits(v.committed, v.delivered, v.twice, v.retried, buried[v.name], v.ghosts+v.strangers, v.disordered)...),
			short(v.p50), short(v.p99)))
	}
	return table(1, rows)
}

// verdict says what was shown, or what went wrong.
func (s status) verdict() (string, error) {
	var wrong []string
	for _, v := range s.views {
		for what, n := range map[string]int{
			"committed and did not arrive":               v.committed - v.delivered,
			"rolled back and arrived":                    v.ghosts,
			"arrived that nobody had committed":          v.strangers,
			"arrived behind a later one of the same key": v.disordered,
		} {
			if n > 0 {
				wrong = append(wrong, fmt.Sprintf("%s: %d messages %s", v.name, n, what))
			}
		}
	}
	if len(wrong) > 0 {
		return "", fmt.Errorf("a promise was broken: %s", strings.Join(wrong, "; "))
	}
	return fmt.Sprintf("All %d messages that committed were delivered to every subscription that wants them;\n"+
		"none of the %d that rolled back was ever seen.", s.committed, s.rolledBack), nil
}

func digits(numbers ...int) (cells []string) {
	for _, n := range numbers {
		cells = append(cells, strconv.Itoa(n))
	}
	return cells
}

// result prints the table and the verdict, which is an error if a promise was broken.
func (d *demo) result(ctx context.Context) error {
	s, err := d.status(ctx, time.Time{})
	if err != nil {
		return err
	}
	buried := map[string]int{}
	for _, l := range d.buried {
		buried[l.Subscription]++
	}
	d.print("")
	d.print(s.result(buried)...)
	d.print("", "  twice: accepted more than once; buried: dead letters, delivered when they were tried again;",
		"  rolled back, disorder: seen against the rules; p50, p99: from the return of COMMIT to the arrival.", "")
	for _, l := range d.buried {
		d.print(fmt.Sprintf("  dead letter %d for %s (%s, %s):", l.ID, l.Subscription, l.Topic, l.Key), "    "+l.Reason)
	}
	verdict, err := s.verdict()
	if err == nil {
		d.print("", verdict, "")
	}
	return err
}
