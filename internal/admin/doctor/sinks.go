package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/destination"
	"github.com/postrider/postrider/relay/subscription"
	natssink "github.com/postrider/postrider/sinks/nats"
)

// sinksTogether is how long all looks at destinations may take together.
const sinksTogether = 10 * time.Second

// checkSinks looks for destinations that answer and yet can never confirm a message. One that cannot be reached from here is left to
// its relay, which tells of it in status.
func (d *examination) checkSinks(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "SELECT name, sink FROM postrider.subscriptions WHERE state = 'active' AND sink ~ '^(nats|tls):' ORDER BY name")
	if err != nil {
		return err
	}
	subs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s subscription.Subscription, err error) {
		return s, row.Scan(&s.Name, &s.Sink)
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sinksTogether)
	defer cancel()
	seen := map[string]bool{}
	for _, s := range subs {
		if ctx.Err() != nil || seen[s.Sink] {
			continue
		}
		seen[s.Sink] = true
		if bad, ok := errors.AsType[*natssink.StreamError](destination.Examine(ctx, s)); ok {
			d.report("destinations", StatusFail, fmt.Sprintf("%q: %s", s.Name, bad.Text), bad.Remedy)
		}
	}
	return nil
}
