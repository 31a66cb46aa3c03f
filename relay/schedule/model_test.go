package schedule

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/relay/store"
)

// memory is a table of schedules with a clock of its own, as the database has them.
type memory struct {
	now    time.Time
	rows   map[string]store.Schedule
	paused map[string]bool
	fired  map[string][]time.Time // by name: the planned times
	hook   func()                 // before each Fire
}

func newMemory(now time.Time) *memory {
	return &memory{now: now, rows: map[string]store.Schedule{}, paused: map[string]bool{}, fired: map[string][]time.Time{}}
}

func (m *memory) scheduler() *Scheduler {
	return &Scheduler{Store: m, Log: slog.New(slog.DiscardHandler), Fired: prometheus.NewCounter(prometheus.CounterOpts{}), Missed: prometheus.NewCounter(prometheus.CounterOpts{}), Report: func(error) {}}
}

func (m *memory) put(name, cron, zone, missed string) {
	m.rows[name] = store.Schedule{Name: name, Cron: cron, Zone: zone, Missed: missed, Version: m.rows[name].Version + 1, From: m.now, Due: m.now}
}

func (m *memory) Earliest(context.Context) (wait time.Duration, some bool, err error) {
	for name, s := range m.rows {
		if d := s.Due.Sub(m.now); !s.Due.IsZero() && !m.paused[name] && (!some || d < wait) {
			wait, some = d, true
		}
	}
	return wait, some, nil
}

func (m *memory) Due(_ context.Context, r store.DueRange, most int) (now time.Time, list []store.Schedule, err error) {
	troubled := r == store.AllDue(true)
	if !troubled && r != store.AllDue(false) {
		return m.now, nil, nil // there are never so many
	}
	for _, name := range slices.Sorted(maps.Keys(m.rows)) {
		if s := m.rows[name]; !s.Due.IsZero() && !m.paused[name] && !s.Due.After(m.now) && (s.Trouble != "") == troubled {
			list = append(list, s)
		}
	}
	return m.now, list, nil
}

func (m *memory) Fire(_ context.Context, list []store.Firing) (moved, fired int, err error) {
	if m.hook != nil {
		m.hook()
	}
	for _, f := range list {
		s, ok := m.rows[f.Name]
		if !ok || m.paused[f.Name] || s.Version != f.Version || !same(s.Next, f.Next) {
			continue
		}
		s.Next, s.Trouble, s.Due = f.Then, f.Trouble, time.Time{}
		switch {
		case f.Trouble != "":
			s.Due = m.now.Add(time.Minute)
		case f.Then != nil:
			s.Due = *f.Then
		}
		m.rows[f.Name] = s
		m.fired[f.Name] = append(m.fired[f.Name], f.Runs...)
		moved, fired = moved+1, fired+len(f.Runs)
	}
	return moved, fired, nil
}

func same(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// Two relays share a table whose clock is decades away from theirs: each run is fired once, at the minute that was meant, by whoever comes
// first; also where one has decided while the other one fires.
func TestTwoRelaysAndAStoppedClock(t *testing.T) {
	for _, year := range []int{1999, 2043} {
		begin := time.Date(year, 3, 27, 0, 0, 30, 0, time.UTC)
		m := newMemory(begin)
		for name, expr := range map[string]string{"minutely": "* * * * *", "hourly": "7 * * * *", "night": "30 2 * * *", "weekly": "0 9 * * 1"} {
			m.put(name, expr, "Europe/Berlin", "last")
		}
		a, b := m.scheduler(), m.scheduler()
		between := 0
		m.hook = func() { // b does all of it before what a has decided arrives
			m.hook = nil
			between++
			if _, err := b.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for end := begin.AddDate(0, 0, 4); m.now.Before(end); {
			wait, err := a.step(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if wait > 0 && wait < glance && wait != again && m.now.Add(wait).Second() != 0 {
				t.Fatalf("at %s it sleeps %s", m.now, wait)
			}
			if wait == 0 || wait == again {
				continue // the clock stands
			}
			m.now = m.now.Add(max(wait, 20*time.Second))
			m.hook = nil
			if m.now.Minute()%3 == 0 {
				m.hook = func() {
					m.hook = nil
					between++
					if _, err := b.step(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for name, s := range m.rows {
			e, err := read(s.Cron, s.Zone)
			if err != nil {
				t.Fatal(err)
			}
			var want []time.Time
			for at := e.next(begin); !at.After(m.now.Add(-20 * time.Second)); at = e.next(at) {
				want = append(want, at)
			}
			if got := m.fired[name]; len(got) < len(want) || !slices.EqualFunc(got[:len(want)], want, time.Time.Equal) || len(got) > len(want)+1 {
				t.Errorf("%s: %d runs, want %d", name, len(got), len(want))
			}
		}
		if between < 1000 {
			t.Errorf("only %d times did one come between", between)
		}
	}
}

// What is made up for after an outage.
func TestMissedRuns(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse("2006-01-02 15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct{ cron, missed, until, want string }{
		{"0 * * * *", "skip", "2026-05-01 10:30:00", ""},
		{"0 * * * *", "skip", "2026-05-01 10:00:59", "10:00"}, // less than a minute is no outage
		{"0 * * * *", "skip", "2026-05-01 10:01:00", ""},
		{"* * * * *", "skip", "2026-05-01 10:30:59", "10:30"},
		{"* * * * *", "skip", "2026-05-01 10:30:00", "10:30"},
		{"0 * * * *", "last", "2026-05-01 10:30:00", "10:00"},
		{"* * * * *", "last", "2026-05-01 10:30:59", "10:30"},
		{"0 * * * *", "all(2)", "2026-05-01 10:30:00", "9:00 10:00"},
		{"0 * * * *", "all(10)", "2026-05-01 10:30:00", "6:00 7:00 8:00 9:00 10:00"},
		{"0 6 * * *", "all(1000)", "2026-05-01 10:30:00", "6:00"},
		{"0 7 * * *", "last", "2027-09-01 06:30:00", "7:00"},
	} {
		m := newMemory(at("2026-05-01 05:30:00"))
		m.put("s", c.cron, "UTC", c.missed)
		s := m.scheduler()
		step := func() {
			if _, err := s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		step() // it is planned
		m.now = at(c.until)
		step()
		step()
		var got []string
		for _, run := range m.fired["s"] {
			got = append(got, run.Format("3:04"))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %s until %s: %v, want %s", c.cron, c.missed, c.until, got, c.want)
		}
		if next := m.rows["s"].Next; next == nil || !next.After(m.now) {
			t.Errorf("%s %s: next is %v", c.cron, c.missed, next)
		}
	}
}

// What is made up for is what a loop over all runs says, whatever the expression and the outage; and years of missed minutes are no work.
func TestNewestRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"* * * * *", "*/7 2-5 * * *", "0 0 1 * *", "* * 1 * *", "30 2 * * 0", "0 0 1 1 *", "1,2,59 13 29 2 *"}).Draw(t, "cron")
		e, err := read(text, "Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 1<<25).Draw(t, "from")) * time.Second)
		now := from.Add(time.Duration(rapid.IntRange(0, 1<<22).Draw(t, "outage")) * time.Second)
		n := rapid.IntRange(1, 50).Draw(t, "n")
		first := e.next(from)
		var all []time.Time
		for at := first; !at.After(now); at = e.next(at) {
			all = append(all, at)
		}
		if len(all) == 0 {
			return
		}
		if got, want := e.newest(first, now, n), all[max(0, len(all)-n):]; !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%s from %s to %s, %d: %v, want %v", text, first, now, n, got, want)
		}
	})
	e, err := read("* * * * *", "UTC")
	if err != nil {
		t.Fatal(err)
	}
	counted := 0
	one := e.newest(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 1000)
	for range one {
		counted++
	}
	if counted != 1000 {
		t.Errorf("%d of a century's minutes, want 1000", counted)
	}
}

// A schedule that was planned by another version of the tz database still has its run.
func TestRunThatTheRulesNoLongerName(t *testing.T) {
	m := newMemory(time.Date(2026, 5, 1, 5, 30, 0, 0, time.UTC))
	planned := m.now.Add(30 * time.Minute)
	m.put("s", "0 12 * * *", "UTC", "last")
	row := m.rows["s"]
	row.Next, row.Due = &planned, planned
	m.rows["s"] = row
	m.now = planned.Add(time.Second)
	if _, err := m.scheduler().step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.fired["s"]); got != fmt.Sprint([]time.Time{planned}) {
		t.Errorf("fired %s", got)
	}
}

// What a relay cannot read is the row's trouble, and looked at again after a minute.
func TestTroubleIsNoted(t *testing.T) {
	m := newMemory(time.Date(2026, 5, 1, 5, 30, 0, 0, time.UTC))
	m.put("cron", "0 0 30 2 *", "UTC", "last")
	m.put("zone", "* * * * *", "CEST", "last")
	m.put("missed", "* * * * *", "UTC", "all(0)")
	m.put("fine", "* * * * *", "UTC", "last")
	s := m.scheduler()
	for range 3 {
		if _, err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"cron": "no such day", "zone": `zone "CEST" is not known`, "missed": "must be skip, last or all(n)", "fine": ""} {
		if got := m.rows[name].Trouble; !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: trouble %q, want %q", name, got, want)
		}
	}
	row := m.rows["zone"]
	row.Zone = "Europe/Berlin" // a build that knows it
	m.rows["zone"] = row
	m.now = m.now.Add(time.Minute)
	for range 3 {
		if _, err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if m.rows["zone"].Trouble != "" || len(m.fired["zone"]) != 1 || len(m.fired["fine"]) != 1 {
		t.Errorf("afterwards: %+v, fired %v", m.rows["zone"], m.fired)
	}
}
