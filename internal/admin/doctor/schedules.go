package doctor

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
)

// checkSchedules finds schedules that are late, in trouble or paused.
func (d *examination) checkSchedules(ctx context.Context) error {
	list, err := admin.Schedules(ctx, d.db)
	if err != nil || len(list) == 0 {
		return err
	}
	n := len(d.findings)
	const most = 5
	told := map[string]int{}
	for _, s := range list {
		told[s.State]++
		if told[s.State] > most {
			continue
		}
		switch s.State {
		case admin.ScheduleTrouble:
			d.report("schedules", StatusFail, fmt.Sprintf("%q cannot be fired: %s", s.Name, human.OneLine(s.Trouble)), "postrider schedules apply FILE, or SELECT postrider.put_schedule(…)")
		case admin.ScheduleLate:
			d.report("schedules", StatusFail, fmt.Sprintf("%q has been due for %s, and no relay has fired it", s.Name, human.Duration(human.Seconds(s.LateSeconds))),
				"start `postrider run`, or look at its log")
		case admin.SchedulePaused:
			d.report("schedules", StatusNote, fmt.Sprintf("%q is paused", s.Name), "postrider schedules resume "+s.Name)
		}
	}
	for _, state := range []string{admin.ScheduleTrouble, admin.ScheduleLate, admin.SchedulePaused} {
		if more := told[state] - most; more > 0 {
			d.report("schedules", StatusNote, fmt.Sprintf("%s more: %s", state, human.Plural(int64(more), "schedule")), "postrider schedules list")
		}
	}
	if len(d.findings) == n {
		d.report("schedules", StatusOK, human.Plural(int64(len(list)), "schedule")+", none late or in trouble")
	}
	return nil
}
