package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) cancelCommand() *cobra.Command {
	var c admin.Cancel
	var all bool
	var topic, key string
	cmd := &cobra.Command{
		Use:   "cancel SUBSCRIPTION [ID…|--topic PATTERN|--key KEY|--all]",
		Short: "Cancel messages that are not settled yet",
		Long: `Cancel messages of a subscription that wait, for whatever it is, or are with a worker: they are not delivered to it. Those with the
ids, or all whose topic matches the pattern and that have the key, as far as these are given; with --all, all that are not settled.

Where a relay delivers, this is a request: the message is cancelled at the relay's next save, unless it is delivered before; to ask
again tells. While no relay delivers it, for the subscription is paused for instance, the request waits. Of a sql: subscription a
message is cancelled at once. Other subscriptions that want the message get it all the same.`,
		Example: "  postrider cancel mail 17 18 --reason 'the order was withdrawn'\n  postrider cancel mail --topic 'mail.reminder' --key customer-7",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := oneWay(len(args) > 1, all, cmd.Flags().Changed("topic") || cmd.Flags().Changed("key")); err != nil {
				return err
			}
			c.Subscription = args[0]
			if c.IDs, err = parseIDs(args[1:]); err != nil {
				return err
			}
			c.Topic, c.Key = given(cmd, "topic", topic), given(cmd, "key", key)
			if all {
				c.Topic = new(">")
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				n, refused, err := admin.CancelMessages(ctx, db, c)
				a.printCancelled(c, n, err)
				return errors.Join(refused, err)
			})
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "", "of messages whose topic matches the pattern, such as orders.created, orders.* or orders.>")
	cmd.Flags().StringVar(&key, "key", "", "of messages with this key")
	cmd.Flags().BoolVar(&all, "all", false, "all messages of the subscription that are not settled")
	cmd.Flags().StringVar(&c.Reason, "reason", "", "shown with the messages")
	return cmd
}

// oneWay says what is wrong with a command that is not told in just one way which messages it is about.
func oneWay(ids, all, filter bool) error {
	ways := 0
	for _, given := range []bool{ids, all, filter} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("say which messages: either ids, or --topic and --key, or --all")
	}
	return nil
}

// given is a flag's value, nil if there is none.
func given(cmd *cobra.Command, flag, value string) *string {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return &value
}

func (a *app) printCancelled(c admin.Cancel, n admin.Cancelled, err error) {
	if n.Requested > 0 {
		a.printf("%s of subscription %q to be cancelled: `postrider messages show ID` tells when one is.\n", human.Plural(n.Requested, "message"), c.Subscription)
	}
	if n.Cancelled > 0 {
		a.printf("%s of subscription %q cancelled.\n", human.Plural(n.Cancelled, "message"), c.Subscription)
	}
	if len(c.IDs) == 0 && n == (admin.Cancelled{}) && err == nil {
		a.printf("Subscription %q has no such messages that are not settled, or not asked for yet.\n", c.Subscription)
	}
}
