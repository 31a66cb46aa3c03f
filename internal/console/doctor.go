package console

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/admin/doctor"
)

// doctorData is what templates/doctor.html shows.
type doctorData struct {
	Ran      bool
	Findings []finding
	Counts   map[string]int
}

// finding is one with its word.
type finding struct {
	doctor.Finding
	condition
}

// Lines is the remedy as one text.
func (f finding) Lines() string { return strings.Join(f.Remedy, "\n") }

// doctor examines when it is asked to: it looks at more than a page that shows itself anew should.
func (h *Handler) doctor(ctx context.Context, q *request) (*page, error) {
	d := doctorData{Ran: q.get("run") != "", Counts: map[string]int{}}
	p := &page{Title: "Doctor", Section: "/doctor", Body: "doctor"}
	if d.Ran {
		select {
		case h.examining <- struct{}{}: // one at a time, whoever asks
			defer func() { <-h.examining }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		levels := map[string]int{doctor.StatusOK: good, doctor.StatusNote: good, doctor.StatusWarn: odd, doctor.StatusFail: bad}
		for _, f := range h.Doctor(ctx) {
			d.Counts[f.Status]++
			d.Findings = append(d.Findings, finding{f, condition{f.Status, levels[f.Status], ""}})
		}
		slices.SortStableFunc(d.Findings, func(a, b finding) int { return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(rank(a), rank(b))) })
	}
	p.Data = d
	return p, nil
}

// rank puts notes before what is well.
func rank(f finding) int {
	if f.Status == doctor.StatusNote {
		return 0
	}
	return 1
}
