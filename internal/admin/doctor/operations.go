package doctor

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
)

// checkOperations finds operations that make no progress, and those that failed lately.
func (d *examination) checkOperations(ctx context.Context) error {
	list, err := admin.PressingOperations(ctx, d.db, 100)
	if err != nil || len(list) == 0 {
		return err
	}
	n := len(d.findings)
	for _, o := range list {
		what := fmt.Sprintf("operation %d, %s of %q,", o.ID, o.Kind, o.Subscription)
		cancel := fmt.Sprintf("postrider operations cancel %d", o.ID)
		switch trouble, idle := o.Stands(); {
		case o.FinishedAt != nil:
			d.report("operations", StatusWarn, fmt.Sprintf("%s has failed: %s", what, human.OneLine(o.Trouble)), fmt.Sprintf("postrider operations show %d", o.ID), "postrider operations start …")
		case idle:
			d.report("operations", StatusFail, fmt.Sprintf("%s waits for somebody to work on it, and nobody does", what), "start `postrider run`, or look at its log", "SELECT postrider.work_operation();", cancel)
		case trouble:
			d.report("operations", StatusFail, fmt.Sprintf("%s has made no progress for %s: %s", what, human.Duration(o.Now.Sub(*o.TroubledAt)), human.OneLine(o.Trouble)),
				"mend what it says: it is tried again every five seconds", cancel)
		}
	}
	if len(d.findings) == n {
		d.report("operations", StatusOK, human.Plural(int64(len(list)), "operation")+" under way, none stands still")
	}
	return nil
}
