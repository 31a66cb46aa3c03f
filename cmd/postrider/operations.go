package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

const whatOperations = `  redrive  dead letters are tried again, from their first attempt
  discard  dead letters are given up for good
  cancel   messages that are not settled are not wanted any more`

func (a *app) operationsCommand() *cobra.Command {
	return group("operations", "Redrive, discard or cancel messages by the thousand, and see how far that is",
		a.operationsListCommand(), a.operationsShowCommand(), a.operationsPreviewCommand(), a.operationsStartCommand(), a.operationsCancelCommand())
}

func (a *app) operationsListCommand() *cobra.Command {
	limit := 20
	cmd := a.withJSON(&cobra.Command{
		Use:   "list",
		Short: "List what is to be done, or was done in the last week, to many messages",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				list, err := admin.Operations(ctx, db, limit)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(list)
				}
				a.printOperations(list)
				return nil
			})
		},
	})
	cmd.Flags().IntVar(&limit, "limit", limit, "most operations to list, the newest first")
	return cmd
}

func (a *app) printOperations(list []admin.Operation) {
	if len(list) == 0 {
		a.printf("There are no operations.\n")
		return
	}
	t := newTable(">OPERATION", "WHAT", "SUBSCRIPTION", "STATE", ">DONE", "OF", "ASKED", "BY", "WHICH", "TROUBLE")
	for _, o := range list {
		t.add(fmt.Sprint(o.ID), o.Kind, o.Subscription, o.State, human.Number(o.Changed), expected(o.Expected, o.ExpectedMore), human.Ago(o.Now, o.AskedAt), o.AskedBy,
			human.Clip(which(o), 60), human.Clip(o.Trouble, 80))
	}
	t.print(a.out)
}

// expected is a bounded count.
func expected(n int64, more bool) string {
	if more {
		return "more than " + human.Number(n)
	}
	return human.Number(n)
}

// which says in short which messages an operation is about.
func which(o admin.Operation) string {
	var list []string
	for _, f := range []struct {
		name  string
		value *string
	}{{"topic", o.Topic}, {"key", o.Key}, {"failure", o.Failure}, {"since", timeText(o.Since)}, {"until", timeText(o.Until)}} {
		if f.value != nil {
			list = append(list, f.name+" "+*f.value)
		}
	}
	if list == nil {
		return "all"
	}
	return strings.Join(list, ", ")
}

func timeText(at *time.Time) *string {
	if at == nil {
		return nil
	}
	return new(at.UTC().Format(time.RFC3339))
}

func (a *app) operationsShowCommand() *cobra.Command {
	return a.withJSON(a.oneOperation("show NUMBER", "Show one operation", admin.ShowOperation))
}

func (a *app) operationsCancelCommand() *cobra.Command {
	cmd := a.oneOperation("cancel NUMBER", "End an operation; what it has done stays", admin.CancelOperation)
	cmd.Long = "End an operation after the chunk that is being done. What it has done stays so: messages that were redriven are not taken back."
	return cmd
}

// oneOperation makes a command that does something with an operation and shows it.
func (a *app) oneOperation(use, short string, do func(ctx context.Context, db admin.Querier, id int64) (admin.Operation, error)) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseNumbers(args, "number", "postrider operations list")
			if err != nil {
				return err
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				o, err := do(ctx, db, ids[0])
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(o)
				}
				a.printOperation(o)
				return nil
			})
		},
	}
}

func (a *app) printOperation(o admin.Operation) {
	line := func(name, format string, args ...any) {
		a.printf("%-13s %s\n", name, human.OneLine(fmt.Sprintf(format, args...)))
	}
	line("operation", "%d: %s", o.ID, o.Kind)
	line("subscription", "%s", o.Subscription)
	line("which", "%s", which(o))
	if o.Reason != nil {
		line("reason", "%s", *o.Reason)
	}
	line("asked", "%s by %s", human.Ago(o.Now, o.AskedAt), o.AskedBy)
	line("state", "%s", o.State)
	line("done", "%s of %s", human.Number(o.Changed), expected(o.Expected, o.ExpectedMore))
	if o.Refused > 0 {
		line("refused", "%s: another message has the unique key", human.Plural(o.Refused, "message"))
	}
	line("looked at", "%s", human.Plural(o.Looked, "message"))
	if o.WorkedAt != nil {
		line("last chunk", "%s by %s", human.Ago(o.Now, *o.WorkedAt), orEmpty(o.Relay))
	}
	if o.FinishedAt != nil {
		line("ended", "%s", human.Ago(o.Now, *o.FinishedAt))
	}
	if o.Trouble != "" {
		line("trouble", "%s", o.Trouble)
	}
}
