// Package human writes numbers, times and texts as a person at a terminal reads them.
package human

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Short writes 24h instead of 24h0m0s.
func Short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Duration writes a duration as a person would say it: two units at most, none that is beside the point.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Millisecond:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return twoUnits(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return twoUnits(d, time.Hour, "h", time.Minute, "m")
	}
	return twoUnits(d, day, "d", time.Hour, "h")
}

func twoUnits(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	if rest := d % big / small; rest > 0 {
		return fmt.Sprintf("%d%s %d%s", d/big, bigName, rest, smallName)
	}
	return fmt.Sprintf("%d%s", d/big, bigName)
}

// Seconds is a number of seconds, as PostgreSQL gives it, as a duration.
func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Ago writes how long before now t was, and "in …" for the future.
func Ago(now, t time.Time) string {
	if d := now.Sub(t); d >= 0 {
		return Duration(d) + " ago"
	}
	return "in " + Duration(t.Sub(now))
}

// Number groups digits by thousands.
func Number(n int64) string {
	s := strconv.FormatInt(n, 10)
	first := len(s) - len(strings.TrimPrefix(s, "-"))
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plural writes "1 message" or "2 messages".
func Plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Number(n) + " " + noun + "s"
}

// Bytes writes 1.5 MiB.
func Bytes(n int64) string {
	for _, u := range ByteUnits[:4] {
		if n >= u.Bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.Bytes), u.Name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// Size writes a number of bytes exactly, in the largest unit that does: 64MiB, 1000B.
func Size(n int64) string {
	for _, u := range ByteUnits[:4] {
		if n >= u.Bytes && n%u.Bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.Bytes, u.Name)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// ByteUnits are the units in which sizes are read, the larger ones first; the first four are those in which they are written.
var ByteUnits = []struct {
	Name  string
	Bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// OneLine keeps a cell to its line and keeps control characters, which may come from a message, off the terminal.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '�'
		}
		return r
	}, s)
}

// Clip shortens s to n characters.
func Clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
