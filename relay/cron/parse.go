package cron

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Expression is a cron expression that has been read. Make one with Parse.
type Expression struct {
	minute, hour, dom, month, dow uint64 // a bit per value
	either                        bool   // day of month and day of week both say something, and one is enough
	wild                          bool   // minute or hour begins with *: it goes by the time that passes
}

// field is one of the five, with the names that its values may have.
type field struct {
	name      string
	low, high int
	names     []string // of low and those after it
}

var fields = [...]field{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// macros stand for whole expressions.
var macros = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

const macroNames = "must be @yearly, @annually, @monthly, @weekly, @daily, @midnight or @hourly, or five fields"

// shape is what an expression looks like, for errors.
const shape = `five fields are needed, minute hour day-of-month month day-of-week, such as "30 6 * * 1-5"`

// Parse reads an expression. Its errors name the field, the value and what would be right.
func Parse(text string) (*Expression, error) {
	e, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("cron %q: %w", text, err)
	}
	return e, nil
}

// split returns the five fields.
func split(text string) ([]string, error) {
	parts := strings.Fields(text)
	switch {
	case strings.Contains(text, "="):
		return nil, errors.New("the zone is no part of the expression: it is a setting of its own, zone")
	case len(parts) == 1 && parts[0][0] == '@':
		known, ok := macros[strings.ToLower(parts[0])]
		if !ok {
			return nil, errors.New(macroNames)
		}
		return strings.Fields(known), nil
	case len(parts) > 0 && parts[0][0] == '@':
		return nil, errors.New(macroNames)
	case len(parts) == 6 || len(parts) == 7:
		return nil, fmt.Errorf("%d fields: seconds and years are not known; %s", len(parts), shape)
	case len(parts) != len(fields):
		return nil, fmt.Errorf("%d fields: %s", len(parts), shape)
	}
	return parts, nil
}

func parse(text string) (*Expression, error) {
	parts, err := split(text)
	if err != nil {
		return nil, err
	}
	var sets [len(fields)]uint64
	for i, f := range fields {
		if sets[i], err = f.parse(parts[i]); err != nil {
			return nil, fmt.Errorf("%s %q: %w", f.name, parts[i], err)
		}
	}
	e := &Expression{minute: sets[0], hour: sets[1], dom: sets[2], month: sets[3], dow: sets[4]}
	if e.dow&(1<<7) != 0 {
		e.dow |= 1
	}
	e.either = parts[2][0] != '*' && parts[4][0] != '*'
	e.wild = parts[0][0] == '*' || parts[1][0] == '*'
	// The calendar repeats itself after 400 years.
	from := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, ok := e.wall(from, from.AddDate(400, 0, 0)); !ok {
		return nil, fmt.Errorf("there is no such day: no month of %q has a day of %q", parts[3], parts[2])
	}
	return e, nil
}

// parse reads a list of ranges.
func (f field) parse(text string) (set uint64, err error) {
	for item := range strings.SplitSeq(text, ",") {
		one, err := f.item(item)
		if err != nil {
			return 0, err
		}
		set |= one
	}
	return set, nil
}

// item reads *, a value or a range, with a step if there is one.
func (f field) item(text string) (set uint64, err error) {
	span, stepText, stepped := strings.Cut(text, "/")
	low, high, err := f.span(span)
	if err != nil {
		return 0, err
	}
	step := 1
	if stepped {
		if span != "*" && !strings.Contains(span, "-") {
			return 0, fmt.Errorf("a step needs a range: write %s-%d/%s", span, f.high, stepText)
		}
		if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > f.high {
			return 0, fmt.Errorf("step %q: must be from 1 to %d", stepText, f.high)
		}
	}
	for v := low; v <= high; v += step {
		set |= 1 << v
	}
	return set, nil
}

// span reads *, a value or a range.
func (f field) span(text string) (low, high int, err error) {
	if text == "*" {
		return f.low, f.high, nil
	}
	lowText, highText, ranged := strings.Cut(text, "-")
	if low, err = f.value(lowText); err != nil || !ranged {
		return low, low, err
	}
	if high, err = f.value(highText); err == nil && low > high {
		err = fmt.Errorf("%s begins after its end: write two ranges, %s-%d,%d-%s", text, lowText, f.high, f.low, highText)
	}
	return low, high, err
}

// value reads a number or a name.
func (f field) value(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.low + i, nil
		}
	}
	v, err := strconv.ParseUint(text, 10, 8)
	if err == nil && int(v) >= f.low && int(v) <= f.high {
		return int(v), nil
	}
	must := fmt.Sprintf("must be from %d to %d", f.low, f.high)
	if f.names != nil {
		must += fmt.Sprintf(" or from %s to %s", f.names[0], f.names[len(f.names)-1])
	}
	return 0, fmt.Errorf("%q %s", text, must)
}

// atLeast returns the least value of the set that is not below v.
func atLeast(set uint64, v int) (int, bool) {
	rest := set >> v << v
	return bits.TrailingZeros64(rest), rest != 0
}
