package cron

import "time"

const (
	// anotherCalendar is how far a clock must be set for it to be no daylight saving, as in ISC cron.
	anotherCalendar = 3 * time.Hour
	// horizon is beyond any two runs: 29 February is a Sunday every 40 years at the least.
	horizon = 100 * 366 * 24 * time.Hour
)

// Next returns the first moment after the given one that is due in the zone, in UTC. It is zero if there is none in a century.
func (e *Expression) Next(after time.Time, zone *time.Location) time.Time {
	limit := after.Add(horizon)
	for at := after.Add(1); at.Before(limit); {
		start, end := at.In(zone).ZoneBounds() // the zone's offset is the same between them
		offset := offsetAt(at, zone)
		from, skipped := e.entry(at, start, zone)
		if skipped {
			return start.UTC()
		}
		until := limit.UTC().Add(offset)
		if !end.IsZero() && end.Before(limit) {
			until = end.UTC().Add(offset)
		}
		if wall, ok := e.wall(from, until); ok {
			return wall.Add(-offset)
		}
		if end.IsZero() {
			break
		}
		at = end
	}
	return time.Time{}
}

// entry returns from which wall time on to look after a moment, where the zone has had its offset from start on; and whether that moment
// is the start, and something is due there because its time was skipped.
func (e *Expression) entry(at, start time.Time, zone *time.Location) (from time.Time, skipped bool) {
	offset := offsetAt(at, zone)
	from = ceil(at.UTC().Add(offset))
	if start.IsZero() || e.wild {
		return from, false
	}
	before := offsetAt(start.Add(-1), zone)
	old := start.UTC().Add(before) // what the wall clock would have said
	switch jump := offset - before; {
	case jump > 0 && jump < anotherCalendar && at.Equal(start):
		_, skipped = e.wall(ceil(old), old.Add(jump))
	case jump < 0 && jump > -anotherCalendar && from.Before(old):
		from = ceil(old)
	}
	return from, skipped
}

func offsetAt(at time.Time, zone *time.Location) time.Duration {
	_, seconds := at.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// ceil is the first whole minute that is not before t.
func ceil(t time.Time) time.Time {
	whole := t.Truncate(time.Minute)
	if whole.Before(t) {
		whole = whole.Add(time.Minute)
	}
	return whole
}

// wall returns the first matching time of the wall clock, written as if it were UTC, from a whole minute on and before until.
func (e *Expression) wall(from, until time.Time) (time.Time, bool) {
	year, month, day := from.Date()
	hour, minute, _ := from.Clock()
	for date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC); date.Before(until); hour, minute = 0, 0 {
		if e.month&(1<<date.Month()) == 0 {
			date = time.Date(date.Year(), date.Month()+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if e.day(date) {
			if h, m, ok := e.clock(hour, minute); ok {
				at := date.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute)
				return at, at.Before(until)
			}
		}
		date = date.AddDate(0, 0, 1)
	}
	return time.Time{}, false
}

// day reports whether a day of a month that matches is meant.
func (e *Expression) day(date time.Time) bool {
	dom, dow := e.dom&(1<<date.Day()) != 0, e.dow&(1<<date.Weekday()) != 0
	if e.either {
		return dom || dow
	}
	return dom && dow
}

// clock returns the first matching time of a day from a minute on.
func (e *Expression) clock(hour, minute int) (h, m int, ok bool) {
	h, ok = atLeast(e.hour, hour)
	if !ok {
		return 0, 0, false
	}
	if h > hour {
		minute = 0
	}
	if m, ok = atLeast(e.minute, minute); ok {
		return h, m, true
	}
	if h, ok = atLeast(e.hour, h+1); !ok {
		return 0, 0, false
	}
	m, ok = atLeast(e.minute, 0)
	return h, m, ok
}
