package doctor

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/states"
)

// abandonedAfter is how long a subscription may stand still before it counts as abandoned.
const abandonedAfter = time.Hour

// subscriptionHealth is what checkSubscriptions looks at; ages are in seconds.
type subscriptionHealth struct {
	Name, State, Reason, Trouble, Owner string
	Segments                            int64
	Unchanged, Unsaved                  float64
}

func (d *examination) checkSubscriptions(ctx context.Context) error {
	var list []subscriptionHealth
	err := admin.ReadOnly(ctx, d.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT v.name, v.state, coalesce(v.paused_reason, ''), coalesce(v.trouble, ''), coalesce(v.owner, ''), v.segments_held,
			       extract(epoch FROM clock_timestamp() - s.updated_at)::float8, extract(epoch FROM clock_timestamp() - v.saved_at)::float8
			FROM postrider.subscription_status v JOIN postrider.subscriptions s USING (name) ORDER BY name`)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[subscriptionHealth])
		return err
	})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		d.report("subscriptions", StatusNote, "there are no subscriptions", "postrider subs apply FILE, or POSTRIDER_SINK and POSTRIDER_TOPICS for `postrider run`")
		return nil
	}
	well := 0
	for _, s := range list {
		if f := s.finding(); f.Status == StatusOK {
			well++
		} else {
			d.findings = append(d.findings, f)
		}
	}
	if well == len(list) {
		d.report("subscriptions", StatusOK, human.Plural(int64(well), "subscription")+", none in trouble")
	}
	return nil
}

// finding judges one subscription.
func (s subscriptionHealth) finding() Finding {
	const name = "subscriptions"
	holds := ""
	if s.Segments > 0 {
		holds = fmt.Sprintf(", and holds %s", human.Plural(s.Segments, "segment"))
	}
	remove := "or, if nobody needs it any more: postrider subs remove " + s.Name
	switch {
	case s.State == "paused":
		status := StatusNote
		if s.Segments > 0 && human.Seconds(s.Unchanged) > abandonedAfter {
			status = StatusWarn
		}
		return Finding{name, status, fmt.Sprintf("%q has been paused for %s (%s)%s", s.Name, human.Duration(human.Seconds(s.Unchanged)), cmp.Or(s.Reason, "no reason given"), holds),
			[]string{"postrider subs resume " + s.Name, remove}}
	case states.IsMisconfigured(s.Trouble):
		return Finding{name, StatusFail, fmt.Sprintf("%q: %s%s", s.Name, s.Trouble, holds),
			[]string{"change what the reason names, at the destination or in the subscription: deliveries then go on by themselves"}}
	case s.Trouble != "":
		return Finding{name, StatusWarn, fmt.Sprintf("%q: %s%s", s.Name, s.Trouble, holds), nil}
	case s.Owner == "" && s.Segments > 0 && human.Seconds(s.Unsaved) > abandonedAfter:
		return Finding{name, StatusWarn, fmt.Sprintf("%q has been delivered by nobody for %s%s", s.Name, human.Duration(human.Seconds(s.Unsaved)), holds),
			[]string{"postrider run", remove}}
	}
	return Finding{name, StatusOK, "", nil}
}

func (d *examination) checkDead(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "SELECT subscription, count(*) FROM postrider.parked WHERE state = 'dead' GROUP BY 1 ORDER BY 1")
	if err != nil {
		return err
	}
	var name string
	var n int64
	found := len(d.findings)
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		d.report("dead letters", StatusWarn, fmt.Sprintf("%q has %s", name, human.Plural(n, "dead letter")),
			"postrider parked list "+name+" --state dead", "postrider parked redrive "+name+" --all", "or: postrider parked discard "+name+" --all")
		return nil
	})
	if err == nil && found == len(d.findings) {
		d.report("dead letters", StatusOK, "none")
	}
	return err
}
