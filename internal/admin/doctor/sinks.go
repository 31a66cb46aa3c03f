package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
	"github.com/postrider/postrider/sinks"
)

// sinksTogether is how long all looks at destinations may take together.
const sinksTogether = 10 * time.Second

// checkSinks looks for destinations that answer and yet can never confirm a message, or may lose it then. One that cannot be reached from here is left to
// its relay, which tells of it in status.
func (d *examination) checkSinks(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "SELECT name, sink, coalesce(settings->'options', '{}') FROM postrider.subscriptions WHERE state = 'active' ORDER BY name")
	if err != nil {
		return err
	}
	subs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s subscription.Subscription, err error) {
		return s, row.Scan(&s.Name, &s.Sink, &s.Settings.Options)
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sinksTogether)
	defer cancel()
	seen := map[string]bool{} // sinks with their options
	for _, s := range subs {
		if ctx.Err() != nil || seen[s.Sink+string(s.Settings.Options)] {
			continue
		}
		seen[s.Sink+string(s.Settings.Options)] = true
		if bad, ok := errors.AsType[*sinks.UnfitError](destination.Examine(ctx, s)); ok {
			status := StatusFail
			if bad.Risk {
				status = StatusWarn
			}
			d.report("destinations", status, fmt.Sprintf("%q: %s", s.Name, bad.Text), bad.Remedy)
		}
	}
	return nil
}
