package snapshot

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// DoneSet tells which messages are settled beyond the rest. It is exact about every message that was known when it was made, and
// says nothing of one that was created later, whatever its id.
type DoneSet []doneRun

// doneRun is some ids, of what was created in its time.
type doneRun struct {
	ids         idSet
	first, last int64 // as ident.born
}

func (d DoneSet) Has(m Ident) bool {
	for _, run := range d {
		if run.first <= m.Born && m.Born <= run.last && run.ids.has(m.ID) {
			return true
		}
	}
	return false
}

// Above returns what has an id greater than id.
func (d DoneSet) Above(id int64) (rest DoneSet) {
	for _, run := range d {
		if ids := run.ids.above(id); len(ids) > 0 {
			rest = append(rest, doneRun{ids, run.first, run.last})
		}
	}
	return rest
}

// Rows whose creation is outside of these years, and the last of all ids, are in no set: they come again after a restart.
var (
	firstYear = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - Epoch
	lastYear  = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - Epoch
)

// NewDoneSet makes a set of the settled ones, which it may reorder. One run is enough as long as no unsettled message has an id of theirs:
// else there is one run of what was created before that, and one of what was created after.
func NewDoneSet(settled, unsettled []Ident) DoneSet {
	settled = slices.DeleteFunc(settled, func(m Ident) bool {
		return m.ID == math.MaxInt64 || m.Born < firstYear || m.Born > lastYear
	})
	if len(settled) == 0 {
		return nil
	}
	all := runOf(settled)
	var twins []int64 // creation
	for _, m := range unsettled {
		if (DoneSet{all}).Has(m) {
			twins = append(twins, m.Born)
		}
	}
	if len(twins) == 0 {
		return DoneSet{all}
	}
	slices.Sort(twins)
	runs := make([][]Ident, 2*len(twins)+1) // before the first twin, at the same time, between it and the next, …
	for _, m := range settled {
		n, same := slices.BinarySearch(twins, m.Born)
		if same {
			runs[2*n+1] = append(runs[2*n+1], m)
		} else {
			runs[2*n] = append(runs[2*n], m)
		}
	}
	var d DoneSet
	for _, run := range runs {
		if len(run) > 0 {
			d = append(d, runOf(run))
		}
	}
	return d
}

func runOf(ms []Ident) doneRun {
	run := doneRun{first: math.MaxInt64, last: math.MinInt64}
	ids := make([]int64, len(ms))
	for i, m := range ms {
		ids[i], run.first, run.last = m.ID, min(run.first, m.Born), max(run.last, m.Born)
	}
	run.ids = NewIDSet(ids)
	return run
}

func ParseDoneSet(text string) (d DoneSet, err error) {
	for _, part := range strings.Fields(text) {
		fields := strings.Split(part, "@")
		if len(fields) != 3 {
			return nil, fmt.Errorf("run %q: must be ids and the bounds of their time", part)
		}
		run := doneRun{}
		if run.ids, err = ParseIDSet(fields[0]); err != nil {
			return nil, err
		}
		for i, bound := range []*int64{&run.first, &run.last} {
			b, err := hex.DecodeString(fields[i+1])
			if err != nil || len(b) != 8 {
				return nil, fmt.Errorf("run %q: %q must be a time as PostgreSQL sends it", part, fields[i+1])
			}
			*bound = int64(binary.BigEndian.Uint64(b))
		}
		d = append(d, run)
	}
	return d, nil
}

// String writes the text that parseDoneSet reads.
func (d DoneSet) String() string {
	var b strings.Builder
	for i, run := range d {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s@%016x@%016x", run.ids, uint64(run.first), uint64(run.last))
	}
	return b.String()
}

// Columns writes the arrays of done_ids, done_first and done_last. What has no first creation (a rebase
// knows none) counts from the first year on.
func (d DoneSet) Columns() (ids, first, last string) {
	var texts [3]strings.Builder
	for i, run := range d {
		for n, value := range []string{run.ids.String(), TimeText(max(run.first, firstYear)), TimeText(min(run.last, lastYear))} {
			if i > 0 {
				texts[n].WriteByte(',')
			}
			texts[n].WriteByte('"')
			texts[n].WriteString(value)
			texts[n].WriteByte('"')
		}
	}
	return "{" + texts[0].String() + "}", "{" + texts[1].String() + "}", "{" + texts[2].String() + "}"
}
