package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) operationsPreviewCommand() *cobra.Command {
	cmd := a.withJSON(&cobra.Command{
		Use:   "preview redrive|discard|cancel SUBSCRIPTION [--topic …] [--key …] [--failure …] [--since …] [--until …] [--all]",
		Short: "Count the messages that an operation would be about, and change nothing",
		Long:  "Count the messages that an operation would be about, up to ten thousand, and change nothing:\n\n" + whatOperations,
	})
	a.filtered(cmd, func(ctx context.Context, db *dbconn.Conn, f admin.Filter) error {
		p, err := admin.PreviewOperation(ctx, db, f)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(p)
		}
		n := human.Plural(p.Messages, "message")
		if p.More {
			n = "more than " + n
		}
		a.printf("%s of subscription %q: %s.\n", f.Kind, f.Subscription, n)
		return nil
	})
	return cmd
}

func (a *app) operationsStartCommand() *cobra.Command {
	var reason string
	cmd := a.withJSON(&cobra.Command{
		Use:   "start redrive|discard|cancel SUBSCRIPTION [--topic …] [--key …] [--failure …] [--since …] [--until …] [--all]",
		Short: "Redrive, discard or cancel messages by topic, key, error and time",
		Long: `Have relays redrive, discard or cancel all messages of a subscription for which everything holds that the flags say:

` + whatOperations + `

It is done in chunks beside the deliveries, goes on when a relay is killed, and concerns what there is now: what dies or comes later is
left alone.`,
		Example: "  postrider operations start redrive billing --failure 'status 503' --since 2h\n" +
			"  postrider operations start cancel mail --topic 'mail.reminder' --key customer-7 --reason 'closed the account'",
	})
	a.filtered(cmd, func(ctx context.Context, db *dbconn.Conn, f admin.Filter) error {
		o, err := admin.StartOperation(ctx, db, f, reason)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(o)
		}
		a.printf("Operation %d: %s of subscription %q, %s. `postrider operations show %d` tells how far it is, `postrider operations cancel %d` ends it.\n",
			o.ID, o.Kind, o.Subscription, messagesExpected(o), o.ID, o.ID)
		return nil
	})
	cmd.Flags().StringVar(&reason, "reason", "", "of cancel: shown with the messages")
	return cmd
}

func messagesExpected(o admin.Operation) string {
	if o.ExpectedMore {
		return "more than " + human.Plural(o.Expected, "message")
	}
	return human.Plural(o.Expected, "message")
}

// filtered gives a command the flags of a filter.
func (a *app) filtered(cmd *cobra.Command, do func(ctx context.Context, db *dbconn.Conn, f admin.Filter) error) {
	var f admin.Filter
	var topic, key, failure, since, until string
	flags := cmd.Flags()
	flags.StringVar(&topic, "topic", "", "of messages whose topic matches the pattern, such as orders.created, orders.* or orders.>")
	flags.StringVar(&key, "key", "", "of messages with this key")
	flags.StringVar(&failure, "failure", "", "of messages whose last error contains this, in upper or lower case; * stands for anything")
	flags.StringVar(&since, "since", "", "of messages created then or later: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h")
	flags.StringVar(&until, "until", "", "of messages created before")
	flags.BoolVar(&f.Everything, "all", false, "all of them")
	cmd.Args = cobra.ExactArgs(2)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.Everything == slices.ContainsFunc([]string{"topic", "key", "failure", "since", "until"}, flags.Changed) {
			return errors.New("say which messages: by --topic, --key, --failure, --since and --until, or else --all")
		}
		f.Kind, f.Subscription = args[0], args[1]
		f.Topic, f.Key, f.Failure = given(cmd, "topic", topic), given(cmd, "key", key), given(cmd, "failure", failure)
		return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) (err error) {
			if f.Since, err = admin.PastTime(ctx, db, "--since", since); err != nil {
				return err
			}
			if f.Until, err = admin.PastTime(ctx, db, "--until", until); err != nil {
				return err
			}
			return do(ctx, db, f)
		})
	}
}
