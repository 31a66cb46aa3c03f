package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) adoptCommand() *cobra.Command {
	var how admin.Adoption
	var remove, yes bool
	cmd := &cobra.Command{
		Use:   "adopt TABLE",
		Short: "Print the SQL by which rows of another table become messages, or run it",
		Long: `Print the SQL by which each row that is inserted into TABLE becomes a message, in the same transaction: a trigger. Applications
stay as they are, may delete the row at once, and need no rights on Postrider's schema. With --yes it is run.

Debezium's layout is known: the topic is aggregatetype.type, the key aggregateid, and the header id has the event's id. Of other tables say what the
parts of a message are: a column's name, or an SQL expression in which r is the row.

--backfill copies the rows that are there as well, in the order of --order or as the table has them; nobody inserts meanwhile, and none is
copied twice. --remove ends the adoption. Run it as the schema's owner.`,
		Example: `  postrider adopt public.outboxevent --backfill
  postrider adopt shop.jobs --topic "'jobs.' || r.kind" --payload args --deliver-at run_at --where "r.state = 'new'" --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			how.Table = args[0]
			if remove && how != (admin.Adoption{Table: args[0]}) {
				return errors.New("--remove goes with --yes alone")
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error { return a.adopt(ctx, db, how, remove, yes) })
		},
	}
	f := cmd.Flags()
	for _, part := range []struct {
		flag, help string
		to         *string
	}{
		{"topic", "the topic; what a topic cannot have becomes _", &how.Topic},
		{"key", "the key, by which messages are ordered", &how.Key},
		{"payload", "the payload: jsonb, json, text or bytea, or anything that to_jsonb takes", &how.Payload},
		{"headers", "the headers: a flat JSON object of strings", &how.Headers},
		{"deliver-at", "when it is due, a timestamp", &how.DeliverAt},
		{"priority", "the priority, from 1 to 4", &how.Priority},
		{"where", "which rows become messages (default all)", &how.Where},
		{"order", "the order of rows that are there, for --backfill", &how.Order},
	} {
		f.StringVar(part.to, part.flag, "", part.help)
	}
	f.BoolVar(&how.Backfill, "backfill", false, "copy the rows that are there as well")
	f.BoolVar(&remove, "remove", false, "end the adoption of the table; messages stay")
	f.BoolVar(&yes, "yes", false, "run it")
	return cmd
}

func (a *app) adopt(ctx context.Context, db *dbconn.Conn, how admin.Adoption, remove, yes bool) error {
	plan, err := (*admin.AdoptionPlan)(nil), error(nil)
	if remove {
		plan, err = admin.PlanAdoptionsEnd(ctx, db, how.Table)
	} else {
		plan, err = admin.PlanAdoption(ctx, db, how)
	}
	if err != nil {
		return err
	}
	for _, note := range plan.Notes {
		a.printf("-- %s.\n", human.OneLine(note))
	}
	a.printf("BEGIN;\n%s\nCOMMIT;\n", strings.Join(plan.Statements, "\n"))
	if !yes {
		return nil
	}
	if err := plan.Run(ctx, db); err != nil {
		return err
	}
	a.printf("-- Done.\n")
	return nil
}
