package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// heldPatience is how long a segment may be in use before somebody is to know: queries and transactions of this length are usual.
const heldPatience = 5 * time.Minute

// heldSegments knows the segments that could be emptied if nobody used them, and whom was warned about.
type heldSegments struct {
	patience time.Duration
	since    map[int]time.Time
	warned   map[string]bool // by holder: whether it was seen in this round
}

func newRetention(g *generation) *retention {
	return &retention{generation: g, held: heldSegments{patience: heldPatience, since: make(map[int]time.Time), warned: make(map[string]bool)}}
}

// free notes that nobody uses the segment.
func (h *heldSegments) free(segment int) { delete(h.since, segment) }

// endRound forgets holders that have let go, so that they are named if they come back.
func (h *heldSegments) endRound() {
	for holder, seen := range h.warned {
		if !seen {
			delete(h.warned, holder)
		} else {
			h.warned[holder] = false
		}
	}
}

// holder is a session, or a prepared transaction, that has a lock on a table.
type holder struct {
	Pid                                 *int32
	Gid, Role, Application, Mode, State *string
	Since                               *time.Time
}

// lookWhoHolds warns of whoever has kept a segment from being emptied for a while: once for each holder, whatever it holds.
func (r *retention) lookWhoHolds(ctx context.Context, segment int) error {
	since, known := r.held.since[segment]
	if !known {
		since = time.Now()
		r.held.since[segment] = since
	}
	waited := time.Since(since)
	if waited < r.held.patience {
		return nil
	}
	rows, err := r.pool.Query(ctx, "SELECT pid, gid, role, application, mode, state, since FROM postrider.lock_holders($1)", fmt.Sprintf("outbox_%d", segment))
	if err != nil {
		return fmt.Errorf("look who holds a segment: %w", err)
	}
	holders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[holder])
	if err != nil {
		return fmt.Errorf("look who holds a segment: %w", err)
	}
	for _, h := range holders {
		if h.Since != nil && time.Since(*h.Since) < r.held.patience {
			continue // one of many that come and go
		}
		if _, known := r.held.warned[h.id()]; !known {
			r.log.Warn("a segment cannot be emptied while it is in use: old messages pile up", append(h.attributes(),
				"segment", segment, "for", waited.Round(time.Second))...)
		}
		r.held.warned[h.id()] = true
	}
	return nil
}

// id tells holders apart: process ids come again.
func (h holder) id() string {
	text := ""
	if h.Pid != nil {
		text = fmt.Sprint(*h.Pid)
	}
	if h.Gid != nil {
		text += *h.Gid
	}
	if h.Since != nil {
		text += h.Since.String()
	}
	return text
}

// attributes are for the log; the remedy is a statement to run.
func (h holder) attributes() []any {
	var list []any
	if h.Pid != nil {
		list = append(list, "pid", *h.Pid)
	}
	for _, a := range []struct {
		name  string
		value *string
	}{{"prepared_transaction", h.Gid}, {"role", h.Role}, {"application", h.Application}, {"state", h.State}} {
		if a.value != nil {
			list = append(list, a.name, *a.value)
		}
	}
	if h.Since != nil {
		list = append(list, "since", h.Since.UTC().Format(time.RFC3339))
	}
	return list
}
