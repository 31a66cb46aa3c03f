package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) messagesListCommand() *cobra.Command {
	f := admin.MessageFilter{Limit: 20}
	var key, since, until string
	var before int64
	cmd := a.withJSON(&cobra.Command{
		Use:   "list",
		Short: "Look for messages by topic, key, time, and by what became of them",
		Long: `Look for messages, the newest first. All that the flags say holds for them. Without a subscription they are looked for in the log,
and with one, what stands in the log for it. With --status retrying, dead and the like, those are listed that the subscription has parked,
also after they have left the log.

A list may be short though there is more: then its last line says how to go on.`,
		Example: "  postrider messages list --key customer-7\n  postrider messages list --subscription billing --status dead --since 2h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) (err error) {
				if f.Since, err = admin.PastTime(ctx, db, "--since", since); err != nil {
					return err
				}
				if f.Until, err = admin.PastTime(ctx, db, "--until", until); err != nil {
					return err
				}
				if cmd.Flags().Changed("key") {
					f.Key = &key
				}
				if cmd.Flags().Changed("before") {
					f.Before = &before
				}
				list, err := admin.ListMessages(ctx, db, f)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(list)
				}
				a.printMessages(list, f.Subscription != "")
				return nil
			})
		},
	})
	flags := cmd.Flags()
	flags.StringVar(&f.Subscription, "subscription", "", "those that this subscription wants, and where they stand for it")
	flags.StringVar(&f.Status, "status", "", "those that are this for the subscription: "+strings.Join(admin.DeliveryStatuses, ", "))
	flags.StringVar(&f.Topic, "topic", "", "those whose topic this pattern matches")
	flags.StringVar(&key, "key", "", "those with this key")
	flags.StringVar(&since, "since", "", "those created then or later: a time, or how long ago, such as 2h")
	flags.StringVar(&until, "until", "", "those created before: a time, or how long ago")
	flags.Int64Var(&before, "before", 0, "those with ids below this one: the next page")
	flags.IntVar(&f.Limit, "limit", f.Limit, fmt.Sprintf("most messages, up to %d", admin.MostMessages))
	return cmd
}

func (a *app) printMessages(list admin.MessageList, ofSubscription bool) {
	switch {
	case len(list.Messages) > 0:
		headings := []string{">ID", "CREATED", "TOPIC", "KEY"}
		if ofSubscription {
			headings = append(headings, "STATUS", ">ATTEMPTS", "REASON")
		}
		t := newTable(headings...)
		for _, m := range list.Messages {
			cells := []string{fmt.Sprint(m.ID), human.Ago(list.Now, m.CreatedAt), m.Topic, human.Clip(orEmpty(m.Key), 40)}
			if ofSubscription {
				attempts := ""
				if m.Attempts != nil {
					attempts = fmt.Sprint(*m.Attempts)
				}
				cells = append(cells, orEmpty(m.Status), attempts, human.Clip(orEmpty(m.Reason), 80))
			}
			t.add(cells...)
		}
		t.print(a.out)
	case list.Next == nil:
		a.printf("There are no such messages.\n")
	default:
		a.printf("There were no such messages so far.\n")
	}
	if list.Next != nil {
		a.printf("\nThere may be more: --before %d\n", *list.Next)
	}
}
