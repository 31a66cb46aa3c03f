package maintain

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/relay/store"
)

// heldPatience is how long a segment may be in use before somebody is to know: queries and transactions of this length are usual.
const heldPatience = 5 * time.Minute

// heldSegments knows the segments that could be emptied if nobody used or needed them, and whom was warned about.
type heldSegments struct {
	since  map[int]span // in use
	needed map[int]span
	warned map[string]bool        // by holder: whether it was seen in this turn
	found  map[string]*store.Held // of this turn, by holder
	told   heldNews
}

func newHeldSegments() heldSegments {
	return heldSegments{since: make(map[int]span), needed: make(map[int]span), warned: make(map[string]bool), found: make(map[string]*store.Held)}
}

// free notes that nobody uses or needs the segment.
func (h *heldSegments) free(segment int) {
	delete(h.since, segment)
	delete(h.needed, segment)
}

// span is since when something is so, and when it was last seen to be.
type span struct{ since, seen time.Time }

// seenFor is for how long it may not be seen and yet be so: a segment cannot be looked at while another relay does.
const seenFor = 10 * time.Minute

// waited notes that a segment is among these, and returns for how long it has been.
func waited(among map[int]span, segment int) time.Duration {
	now := time.Now()
	s := among[segment]
	if now.Sub(s.seen) > seenFor {
		s.since = now
	}
	s.seen = now
	among[segment] = s
	return now.Sub(s.since)
}

// endTurn forgets holders that have let go, so that they are named if they come back.
func (h *heldSegments) endTurn() {
	for holder, seen := range h.warned {
		if !seen {
			delete(h.warned, holder)
		} else {
			h.warned[holder] = false
		}
	}
}

// lookWhoHolds warns of whoever has kept a segment from being emptied for a while: once for each holder, whatever it holds.
func (r *Retention) lookWhoHolds(ctx context.Context, segment int) error {
	waited := waited(r.held.since, segment)
	if waited < r.Patience {
		return nil
	}
	holders, err := r.ring.Holders(ctx, segment)
	if err != nil {
		return err
	}
	for _, h := range holders {
		if h.Since != nil && time.Since(*h.Since) < r.Patience {
			continue // one of many that come and go
		}
		id := holderID(h)
		if _, known := r.held.warned[id]; !known {
			r.log.Warn("a segment cannot be emptied while it is in use: old messages pile up", append(attributes(h),
				"segment", segment, "for", waited.Round(time.Second))...)
		}
		r.held.warned[id] = true
		r.held.find(id, locksSubject, h.String(), h)
	}
	return nil
}

// holderID tells holders apart: process ids come again.
func holderID(h store.Holder) string {
	text := ""
	if h.PID != nil {
		text = fmt.Sprint(*h.PID)
	}
	if h.GID != nil {
		text += *h.GID
	}
	if h.Since != nil {
		text += h.Since.String()
	}
	return text
}

// attributes are for the log.
func attributes(h store.Holder) []any {
	var list []any
	if h.PID != nil {
		list = append(list, "pid", *h.PID)
	}
	for _, a := range []struct {
		name  string
		value *string
	}{{"prepared_transaction", h.GID}, {"role", h.Role}, {"application", h.Application}, {"state", h.State}} {
		if a.value != nil {
			list = append(list, a.name, *a.value)
		}
	}
	if h.Since != nil {
		list = append(list, "since", h.Since.UTC().Format(time.RFC3339))
	}
	return list
}
