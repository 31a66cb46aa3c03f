package torture

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// scheduleStep is what was done to a schedule. It has a place among what was fired: the row was locked then.
type scheduleStep struct {
	At           time.Time
	Name, What   string
	Cron, Missed *string    // as they were after it; nil: there is no such schedule
	From         *time.Time // the first run is after it; nil: the next run stayed
	Message      *int64     // of a run by hand
}

// firing is what one statement has fired of a schedule.
type firing struct {
	at   time.Time
	runs []time.Time
}

// checkSchedules waits until all that is due was fired, and notes until when that is so.
func (w *world) checkSchedules(ctx context.Context) {
	if !w.db.hasLedger {
		return
	}
	w.fail(poll(ctx, settleTime, func() error {
		late, err := ask[string](ctx, w.db, "SELECT name FROM postrider.schedules WHERE due < clock_timestamp() - interval '2 s' AND NOT paused")
		if err == nil && len(late) > 0 {
			err = fmt.Errorf("schedules that are due are not fired: %s", strings.Join(late, ", "))
		}
		if err == nil {
			w.apps.history.firedUntil, err = one[time.Time](ctx, w.db, "SELECT clock_timestamp() - interval '5 s'")
		}
		return err
	}))
}

// loadSteps tells the truth what was done to schedules.
func (w *world) loadSteps(ctx context.Context, t *truth) error {
	return poll(ctx, time.Minute, func() error {
		rows, err := w.db.admin.Query(ctx, "SELECT at, schedule, what, cron, missed, planned_from, message FROM torture.steps ORDER BY n")
		if err == nil {
			t.steps, err = pgx.CollectRows(rows, pgx.RowToStructByPos[scheduleStep])
		}
		return err
	})
}

// judgeSchedules finds runs that were not fired, or twice, or while they should not have been. missed counts for which of them runs were lost, where that shows.
func (t *truth) judgeSchedules(until time.Time) (violations []string, missed map[string]int) {
	missed = make(map[string]int)
	steps, fired, byHand := make(map[string][]scheduleStep), make(map[string][]firing), make(map[int64]bool)
	for _, s := range t.steps {
		if s.Message != nil {
			byHand[*s.Message] = true
		} else {
			steps[s.Name] = append(steps[s.Name], s)
		}
	}
	last := make(map[string]int64)
	for _, r := range t.log {
		switch list := fired[r.Schedule]; {
		case r.Schedule == "":
		case byHand[r.Row]:
			delete(byHand, r.Row)
		case len(list) > 0 && last[r.Schedule] == r.XID:
			list[len(list)-1].runs = append(list[len(list)-1].runs, r.Planned)
		default:
			last[r.Schedule], fired[r.Schedule] = r.XID, append(list, firing{r.At, []time.Time{r.Planned}})
		}
	}
	for row := range byHand {
		violations = append(violations, fmt.Sprintf("a run by hand, row %d, is not in the log", row))
	}
	for name, list := range fired {
		if len(steps[name]) == 0 {
			violations = append(violations, fmt.Sprintf("schedule %s: fired %d times, and there was no such schedule", name, len(list)))
		}
	}
	for name, list := range steps {
		s := &scheduleModel{name: name}
		s.play(list, fired[name])
		s.end(until)
		violations, missed[name] = append(violations, s.violations...), s.lost
	}
	return violations, missed
}

// scheduleModel is what a schedule should do.
type scheduleModel struct {
	name       string
	there      bool
	paused     bool
	cron       string
	missed     string
	after      time.Time // the last run that is over with
	since      time.Time // relays have known of what is due since then
	lost       int       // how often runs were lost that are not made up for; -1: that does not show
	violations []string
}

func (s *scheduleModel) violate(format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf("schedule %s (%s, missed: %s): ", s.name, s.cron, s.missed)+fmt.Sprintf(format, args...))
}

// play goes through steps and firings in the order of time.
func (s *scheduleModel) play(steps []scheduleStep, fired []firing) {
	for len(steps) > 0 || len(fired) > 0 {
		if len(fired) == 0 || len(steps) > 0 && steps[0].At.Before(fired[0].at) {
			s.step(steps[0])
			steps = steps[1:]
		} else {
			s.fire(fired[0])
			fired = fired[1:]
		}
	}
}

func (s *scheduleModel) step(step scheduleStep) {
	if step.Cron == nil {
		s.there = false
		return
	}
	s.begin(step)
	s.paused = s.there && (s.paused || step.What == "pause") && step.What != "resume"
	s.there, s.cron, s.missed = true, *step.Cron, *step.Missed
	if s.missed == "skip" {
		s.lost = -1
	}
}

// begin finds out whether runs are counted anew: what was before is not made up for after a pause, or with another expression. The checker itself sets
// back what it puts.
func (s *scheduleModel) begin(step scheduleStep) {
	anew := !s.there || step.What == "resume" && s.paused || s.cron != *step.Cron
	from := step.At
	if step.From != nil && (step.What == "put" || step.From.After(step.At.Add(-moment))) {
		from = *step.From
	}
	if anew || step.What == "put" && step.From != nil {
		s.after, s.since = from, step.At
	}
}

// fire judges what one statement has fired.
func (s *scheduleModel) fire(f firing) {
	slices.SortFunc(f.runs, time.Time.Compare)
	newest := f.runs[len(f.runs)-1]
	due := s.due(newest)
	made := due[max(0, len(due)-s.most()):]
	switch {
	case !s.there:
		s.violate("fired at %s, but it was removed", clock(f.at))
	case s.paused:
		s.violate("fired at %s, while it was paused", clock(f.at))
	case newest.After(f.at):
		s.violate("fired at %s for %s: before its time", clock(f.at), clock(newest))
	case !newest.After(s.after):
		s.violate("fired at %s for %s: twice, or never due", clock(f.at), clock(newest))
	case !slices.EqualFunc(made, f.runs, time.Time.Equal):
		s.violate("fired at %s for %v, and not for %v", clock(f.at), f.runs, made)
	}
	for _, run := range due {
		if run.After(s.since) && !slices.ContainsFunc(f.runs, run.Equal) {
			s.violate("not fired for %s, and nothing was down for a minute", clock(run))
		}
	}
	if s.lost >= 0 && len(due) > len(made) {
		s.lost++
	}
	s.after = newest
}

// end judges what was never fired.
func (s *scheduleModel) end(until time.Time) {
	if !s.there || s.paused {
		return
	}
	for _, run := range s.due(until) {
		if s.missed != "skip" || run.After(s.since) {
			s.violate("never fired for %s", clock(run))
		}
	}
}

// most is how many missed runs are made up for at once; of those that are skipped one may be in time.
func (s *scheduleModel) most() int {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(s.missed, "all("), ")"))
	if err != nil {
		return 1
	}
	return n
}

// due returns the runs that are not over with, up to one. All expressions here are of minutes alone, in UTC.
func (s *scheduleModel) due(upTo time.Time) (runs []time.Time) {
	every := time.Minute
	if n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(s.cron, "*/"), " * * * *")); err == nil {
		every *= time.Duration(n)
	}
	if s.after.IsZero() {
		return nil
	}
	for at := s.after.Truncate(every).Add(every); !at.After(upTo); at = at.Add(every) {
		runs = append(runs, at)
	}
	return runs
}
