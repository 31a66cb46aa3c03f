package cron

import (
	"archive/zip"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// allZones are the names of the tz database that the toolchain brings along.
func allZones(t *testing.T) (names []string) {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib/time/zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, "/") {
			names = append(names, f.Name)
		}
	}
	if len(names) < 400 {
		t.Fatalf("only %d zones", len(names))
	}
	return names
}

// transition is a moment at which a zone's clocks are set.
type transition struct {
	at            time.Time
	before, after time.Duration
}

// transitions returns all of a year, each with one of the zones that have it.
func transitions(t *testing.T, year int) map[transition]*time.Location {
	t.Helper()
	found := map[transition]*time.Location{}
	for _, name := range allZones(t) {
		zone, err := Zone(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC); ; {
			_, end := at.In(zone).ZoneBounds()
			if end.IsZero() || end.Year() > year {
				break
			}
			at = end.UTC()
			if x := (transition{at, offsetAt(at.Add(-1), zone), offsetAt(at, zone)}); x.before != x.after {
				found[x] = zone
			}
		}
	}
	return found
}

// around is the wall times before and after the change of the clocks, where it matters.
func (x transition) around() []time.Time {
	old, now := x.at.Add(x.before), x.at.Add(x.after)
	var list []time.Time
	for _, wall := range []time.Time{old, now} {
		for _, by := range []time.Duration{-60, -30, -1, 0, 1, 30, 59, 60} {
			list = append(list, wall.Add(by*time.Minute))
		}
	}
	return list
}

// expressions are at fixed times and by elapsed time, around the change.
func (x transition) expressions() (list []string) {
	for _, wall := range x.around() {
		m, h, dom, month, dow := wall.Minute(), wall.Hour(), wall.Day(), int(wall.Month()), int(wall.Weekday())
		list = append(list, fmt.Sprintf("%d %d * * *", m, h), fmt.Sprintf("%d,%d %d-%d * * *", m, (m+30)%60, min(h, 22), min(h, 22)+1),
			fmt.Sprintf("%d %d %d %d *", m, h, dom, month), fmt.Sprintf("%d %d 1 %d %d", m, h, month%12+1, dow))
	}
	list = append(list, "* * * * *", "*/15 2 * * *", "0 * * * *", "30 */2 * * *", "30 0-23 * * *", "0 0 * * *", "0-59/20 0-23/3 * * 7")
	slices.Sort(list)
	return slices.Compact(list)
}

// compare asks both implementations for all that is due around a moment.
func compare(t interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, text string, zone *time.Location, from, to time.Time) int {
	t.Helper()
	e, err := Parse(text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	want := (&daemon{text: text, zone: zone}).between(from, to)
	var got []time.Time
	for at := e.Next(from, zone); !at.IsZero() && !at.After(to); at = e.Next(at, zone) {
		got = append(got, at)
	}
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		t.Errorf("%q in %s from %s:\n got %v\nwant %v", text, zone, from, got, want)
	}
	// The set does not depend on where one asks from.
	for _, at := range want {
		if next := e.Next(at.Add(-17*time.Second), zone); !next.Equal(at) {
			t.Errorf("%q in %s: a few seconds before %s, next is %s", text, zone, at, next)
		}
	}
	return len(want)
}

// Every change of the clocks of a year, in every zone that there is, agrees with a daemon that goes from minute to minute. Of earlier
// years there are a date line that was moved (2011), clocks set back by three hours (2012), and changes of half an hour, two hours and to negative summer times.
func TestEveryTransitionOfAYear(t *testing.T) {
	for _, year := range []int{2011, 2012, 2026} {
		all := transitions(t, year)
		if year == 2012 {
			maps.DeleteFunc(all, func(x transition, _ *time.Location) bool { return x.before-x.after < anotherCalendar })
			if len(all) == 0 {
				t.Fatal("no clock was set back by three hours")
			}
		}
		runs := 0
		for x, zone := range all {
			for _, text := range x.expressions() {
				runs += compare(t, text, zone, x.at.Add(-5*time.Hour), x.at.Add(5*time.Hour))
			}
			if t.Failed() {
				return
			}
		}
		if year != 2012 && (len(all) < 20 || runs < 10000) {
			t.Fatalf("only %d transitions with %d runs in %d", len(all), runs, year)
		}
		t.Logf("%d: %d transitions, %d runs", year, len(all), runs)
	}
}

// Any expression agrees with the daemon on any days.
func TestAnyExpression(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"}
	rapid.Check(t, func(t *rapid.T) {
		field := func(low, high int, label string) string {
			value := rapid.IntRange(low, high)
			item := rapid.Custom(func(t *rapid.T) string {
				a, b := value.Draw(t, "a"), value.Draw(t, "b")
				step := rapid.IntRange(1, high).Draw(t, "step")
				switch rapid.IntRange(0, 4).Draw(t, "kind") {
				case 0:
					return "*"
				case 1:
					return fmt.Sprintf("*/%d", step)
				case 2:
					return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
				case 3:
					return fmt.Sprintf("%d-%d/%d", min(a, b), max(a, b), step)
				}
				return fmt.Sprint(a)
			})
			return strings.Join(rapid.SliceOfN(item, 1, 3).Draw(t, label), ",")
		}
		text := strings.Join([]string{field(0, 59, "minute"), field(0, 23, "hour"), field(1, 28, "day"), field(1, 12, "month"), field(0, 7, "weekday")}, " ")
		zone, err := Zone(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 365*24*60).Draw(t, "from")) * time.Minute)
		compare(t, text, zone, from, from.Add(50*time.Hour))
	})
}

// What the documentation says, in its words.
func TestDaylightSaving(t *testing.T) {
	for _, c := range []struct{ text, zone, from, want string }{
		// 2:00 to 3:00 does not exist on 29 March, 2:00 to 3:00 comes twice on 25 October.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"},
		{"0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z 2026-03-29T01:30:00Z 2026-03-30T00:00:00Z"},
		{"*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z 2026-03-30T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z 2026-10-25T01:30:00Z 2026-10-25T02:30:00Z"},
		{"30 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z 2026-04-24T21:30:00Z"}, // midnight does not exist
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-03T15:30:00Z 2026-10-04T15:15:00Z"},
		{"0 8 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-29T18:00:00Z 2011-12-30T18:00:00Z"}, // 30 December does not exist
		// Day of month and day of week: one of them is enough, unless one begins with *.
		{"0 0 13 * 5", "UTC", "2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z 2026-02-13T00:00:00Z 2026-02-20T00:00:00Z"},
		{"0 0 1-7 * *", "UTC", "2026-02-05T00:00:00Z", "2026-02-06T00:00:00Z 2026-02-07T00:00:00Z 2026-03-01T00:00:00Z"},
		{"0 0 */1 * 1", "UTC", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z 2026-02-09T00:00:00Z"},
		{"0 0 29 2 *", "UTC", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z 2108-02-29T00:00:00Z"},
		{"0 0 * * 7", "UTC", "2026-02-01T00:00:00Z", "2026-02-08T00:00:00Z"},
		{"0 0 * * fri-7", "UTC", "2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z 2026-02-07T00:00:00Z 2026-02-08T00:00:00Z"},
		{"@monthly", "UTC", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z 2026-04-01T00:00:00Z"},
		{" 0\t12  * JAN-Mar  Mon ", "UTC", "2026-03-30T00:00:00Z", "2026-03-30T12:00:00Z 2027-01-04T12:00:00Z"},
	} {
		e, err := Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := Zone(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range strings.Fields(c.want) {
			at = e.Next(at, zone)
			got = append(got, at.Format(time.RFC3339))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q in %s: %s, want %s", c.text, c.zone, got, c.want)
		}
	}
}
