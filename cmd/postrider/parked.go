package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/states"
)

func (a *app) parkedCommand() *cobra.Command {
	return group("parked", "List, redrive and discard messages that did not simply work",
		a.parkedListCommand(), a.parkedShowCommand(), a.parkedRedriveCommand(), a.parkedDiscardCommand())
}

// explainStates is the table of states for a command's help.
func explainStates() string {
	var b strings.Builder
	for _, s := range states.All() {
		fmt.Fprintf(&b, "  %-9s  %s\n", s.Name, s.Meaning)
	}
	return b.String()
}

func (a *app) parkedListCommand() *cobra.Command {
	var which admin.ParkedFilter
	cmd := a.withJSON(&cobra.Command{
		Use:   "list [SUBSCRIPTION]",
		Short: "List parked messages",
		Long: `List the messages that are not simply delivered or pending:

` + explainStates() + `  (discarded ones are listed only with --state discarded)`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			which.Subscription = strings.Join(args, "")
			if err := which.Check(); err != nil {
				return err
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				list, err := admin.ListParked(ctx, db, which)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(list.Messages)
				}
				a.printParked(list)
				return nil
			})
		},
	})
	cmd.Flags().StringSliceVar(&which.States, "state", states.Names(func(s states.State) bool { return s.Name != states.Discarded }), "states to list, separated by commas")
	cmd.Flags().IntVar(&which.Limit, "limit", 50, "most messages to list")
	return cmd
}

func (a *app) printParked(l admin.ParkedList) {
	if len(l.Messages) == 0 {
		a.printf("Nothing is parked.\n")
		return
	}
	list := newTable("SUBSCRIPTION", ">ID", "STATE", ">ATTEMPTS", "DUE", "TOPIC", "KEY", "PARKED", "REASON")
	for _, v := range l.Messages {
		due := "-"
		if v.Due != nil && !states.Of(v.State).Over {
			due = human.Ago(l.Now, *v.Due)
		}
		key := "-"
		if v.Key != nil {
			key = *v.Key
		}
		list.add(v.Subscription, fmt.Sprint(v.ID), v.State, human.Number(int64(v.Attempts)), due, v.Topic, human.Clip(key, 32), human.Ago(l.Now, v.ParkedAt), human.Clip(cmp.Or(v.Reason, "-"), 80))
	}
	list.print(a.out)
	if more := l.Total - int64(len(l.Messages)); more > 0 {
		a.printf("… and %s more: see --limit.\n", human.Number(more))
	}
}
