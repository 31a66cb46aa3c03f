package main

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) statusCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "status",
		Short: "Show where each subscription stands, and the relays",
		Long: `Show where each subscription stands, and the relays:

  LAG, LAG TIME    messages neither delivered nor parked, and the age of the oldest
  RETRYING … DEAD  parked messages by state: ` + "`postrider parked list`" + ` explains and lists them
  SEGMENTS         parts of the outbox that cannot be emptied because of this subscription
  TROUBLE          why deliveries stand still, or are paused
  SCHEDULE         those that are late, paused or in trouble: ` + "`postrider schedules list`" + ` lists all
  OPERATION        those that are not finished, or failed within a day: ` + "`postrider operations list`" + ` lists all
  LAST SEEN        when a relay last asked the database for something. One that is gone was killed: another takes over`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				report, err := admin.Status(ctx, db)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(report)
				}
				a.printStatus(report)
				return nil
			})
		},
	})
}

func (a *app) printStatus(r *admin.StatusReport) {
	if len(r.Subscriptions) == 0 {
		a.printf("There are no subscriptions: messages are kept for the retention and delivered to nobody.\n")
	} else {
		list := newTable("SUBSCRIPTION", "STATE", "OWNER", ">LAG", ">LAG TIME", ">RETRYING", ">HELD", ">SCHEDULED", ">LEASED", ">DEAD", ">SEGMENTS", "TROUBLE")
		for _, s := range r.Subscriptions {
			list.add(s.Name, s.State, cmp.Or(s.OwnerTitle, "-"), lag(&s), human.Duration(human.Seconds(s.LagSeconds)),
				human.Number(s.Retrying), human.Number(s.Held), human.Number(s.Scheduled), human.Number(s.Leased), human.Number(s.Dead), human.Number(s.SegmentsHeld), human.Clip(why(&s), 100))
		}
		list.print(a.out)
	}
	a.printf("\n")
	a.printIdleSchedules(r)
	if len(r.Operations) > 0 {
		a.printOperations(r.Operations)
		a.printf("\n")
	}
	if len(r.Relays) == 0 {
		a.printf("No relay is registered: until `postrider run` runs, nothing is delivered but what workers take in SQL.\n")
		return
	}
	list, title := newTable("RELAY", "VERSION", "STARTED", ">SUBSCRIPTIONS", "LAST SEEN"), admin.Titles(r.Relays)
	for _, relay := range r.Relays {
		list.add(title[relay.Incarnation], relay.Version, human.Ago(r.Now, relay.StartedAt), human.Number(relay.Subscriptions), relay.Seen(r.Now))
	}
	list.print(a.out)
	a.printUnable(r)
}

// printUnable lists what relays leave to others.
func (a *app) printUnable(r *admin.StatusReport) {
	list, title, n := newTable("RELAY", "CANNOT DELIVER", "SINCE", "BECAUSE"), admin.Titles(r.Relays), 0
	for _, relay := range r.Relays {
		for _, name := range slices.Sorted(maps.Keys(relay.Unable)) {
			u := relay.Unable[name]
			list.add(title[relay.Incarnation], name, human.Ago(r.Now, u.Since), human.Clip(u.Reason, 100))
			n++
		}
	}
	if n > 0 {
		a.printf("\n")
		list.print(a.out)
	}
}

// printIdleSchedules lists the schedules that are late, paused or in trouble, the first of many.
func (a *app) printIdleSchedules(r *admin.StatusReport) {
	const most = 20
	if n := len(r.Schedules); n > 0 {
		a.printSchedules(r.Schedules[:min(n, most)])
		if n > most {
			a.printf("… and %s more: `postrider schedules list`\n", human.Number(int64(n-most)))
		}
		a.printf("\n")
	}
}

// lag is how many messages wait, "10,000+" if there are more than could be counted in time.
func lag(s *admin.SubscriptionStatus) string {
	if s.LagMore {
		return human.Number(s.LagMessages) + "+"
	}
	return human.Number(s.LagMessages)
}

// why says why deliveries stand still, when they do.
func why(s *admin.SubscriptionStatus) string {
	if s.State == "paused" {
		return cmp.Or(s.PausedReason, s.Trouble, s.Contested)
	}
	return cmp.Or(s.Trouble, s.Contested)
}
