package cron

import (
	"strconv"
	"strings"
	"time"
)

// daemon is the second implementation: it goes from minute to minute, as the daemon of ISC cron does, and looks at the text of the
// expression each time.
type daemon struct {
	text    string
	zone    *time.Location
	virtual time.Time // wall times up to here have had their turn, for jobs at fixed times
}

// between returns when the expression is due after from, up to and including to, both whole minutes.
func (d *daemon) between(from, to time.Time) (due []time.Time) {
	d.virtual = wallOf(from, d.zone)
	for t := from.Add(time.Minute); !t.After(to); t = t.Add(time.Minute) {
		if d.minute(t) {
			due = append(due, t)
		}
	}
	return due
}

// minute reports whether something is due in one minute.
func (d *daemon) minute(t time.Time) bool {
	now := wallOf(t, d.zone)
	fields := strings.Fields(d.text)
	if fields[0][0] == '*' || fields[1][0] == '*' {
		return matches(d.text, now)
	}
	switch ahead := now.Sub(d.virtual); {
	case ahead >= anotherCalendar+time.Minute || ahead <= -anotherCalendar+time.Minute:
		d.virtual = now
		return matches(d.text, now)
	case ahead <= 0: // the clock was set back: wait for it
		return false
	}
	found := false
	for d.virtual.Before(now) {
		d.virtual = d.virtual.Add(time.Minute)
		found = matches(d.text, d.virtual) || found
	}
	return found
}

func wallOf(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// matches looks at the text field by field.
func matches(text string, wall time.Time) bool {
	f := strings.Fields(text)
	on := func(i, value, low, high int) bool { return inList(f[i], value, low, high) }
	dom := on(2, wall.Day(), 1, 31)
	dow := on(4, int(wall.Weekday()), 0, 7) || wall.Weekday() == time.Sunday && on(4, 7, 0, 7)
	day := dom && dow
	if f[2][0] != '*' && f[4][0] != '*' {
		day = dom || dow
	}
	return on(0, wall.Minute(), 0, 59) && on(1, wall.Hour(), 0, 23) && day && on(3, int(wall.Month()), 1, 12)
}

func inList(list string, value, low, high int) bool {
	for item := range strings.SplitSeq(list, ",") {
		span, step, stepped := strings.Cut(item, "/")
		every := 1
		if stepped {
			every = number(step)
		}
		first, last := low, high
		if span != "*" {
			a, b, ranged := strings.Cut(span, "-")
			first, last = number(a), number(a)
			if ranged {
				last = number(b)
			}
		}
		if value >= first && value <= last && (value-first)%every == 0 {
			return true
		}
	}
	return false
}

// number reads a number or the name of a month or day, by the first place where it stands.
func number(text string) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	const days, months = "sunmontuewedthufrisat", "   janfebmaraprmayjunjulaugsepoctnovdec"
	text = strings.ToLower(text)
	if i := strings.Index(days, text); i >= 0 {
		return i / 3
	}
	return strings.Index(months, text) / 3
}
