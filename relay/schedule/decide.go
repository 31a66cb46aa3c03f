package schedule

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/postrider/postrider/relay/cron"
	"github.com/postrider/postrider/relay/store"
)

// InTime is how late a run may be without having been missed: no two runs of a schedule are closer.
const InTime = time.Minute

// mostMade is how many runs are made up for at once at most.
const mostMade = 1000

var policy = regexp.MustCompile(`^(?:(skip|last)|all\(([0-9]{1,4})\))$`)

// checkMissed says what is wrong with what is to become of missed runs.
func checkMissed(text string) error {
	if _, ok := readMissed(text); !ok {
		return fmt.Errorf("missed %q: must be skip, last or all(n), n from 1 to %d", text, mostMade)
	}
	return nil
}

// readMissed returns how many runs are made up for at most: 0 for skip.
func readMissed(text string) (most int, ok bool) {
	m := policy.FindStringSubmatch(text)
	switch {
	case m == nil:
		return 0, false
	case m[1] == "skip":
		return 0, true
	case m[1] == "last":
		return 1, true
	}
	most, err := strconv.Atoi(m[2])
	return most, err == nil && most >= 1 && most <= mostMade
}

// expression is a schedule's, in its zone.
type expression struct {
	*cron.Expression
	zone *time.Location
}

func (e expression) next(after time.Time) time.Time { return e.Next(after, e.zone) }

// Next returns when a schedule is due next after a moment: zero if never again.
func Next(expr, zone string, after time.Time) (time.Time, error) {
	e, err := read(expr, zone)
	if err != nil {
		return time.Time{}, err
	}
	return e.next(after), nil
}

func read(expr, zone string) (e expression, err error) {
	if e.Expression, err = cron.Parse(expr); err != nil {
		return e, err
	}
	e.zone, err = cron.Zone(zone)
	return e, err
}

// decide says what becomes of a schedule at a moment of the database's clock.
func decide(s store.Schedule, now time.Time, read func(expr, zone string) (expression, error)) store.Firing {
	e, err := read(s.Cron, s.Zone)
	if err == nil {
		err = checkMissed(s.Missed)
	}
	if err != nil {
		return store.Firing{Schedule: s, Then: s.Next, Trouble: err.Error()}
	}
	f := store.Firing{Schedule: s}
	first := e.next(s.From)
	if s.Next != nil {
		first = *s.Next
	}
	if !first.IsZero() && !first.After(now) {
		f.Runs = e.runs(first, now, s.Missed)
		f.Lost = len(f.Runs) == 0 || f.Runs[0].After(first)
		first = e.next(now)
	}
	if !first.IsZero() {
		f.Then = &first
	}
	return f
}

// runs returns which of the runs from first to now are fired, in their order.
func (e expression) runs(first, now time.Time, missed string) []time.Time {
	most, _ := readMissed(missed)
	list := e.newest(first, now, max(most, 1))
	if most == 0 && now.Sub(list[0]) >= InTime {
		return nil
	}
	return list
}

// newest returns the last n runs up to now, first among them if there are no more than that. It looks back further and further, since an
// outage may be long and the runs many.
func (e expression) newest(first, now time.Time, n int) []time.Time {
	for back := time.Duration(n) * InTime; ; back *= 4 {
		at := first
		from := now.Add(-back)
		whole := !from.After(first) || back <= 0 // it has overflown
		if !whole {
			at = e.next(from)
		}
		var list []time.Time
		for ; !at.IsZero() && !at.After(now); at = e.next(at) {
			list = append(list, at)
		}
		if whole || len(list) >= n {
			return list[max(0, len(list)-n):]
		}
	}
}
