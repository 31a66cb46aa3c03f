package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) messagesCommand() *cobra.Command {
	return group("messages", "Look for messages, and show what came of them", a.messagesListCommand(), a.messagesShowCommand())
}

func (a *app) messagesShowCommand() *cobra.Command {
	var wait time.Duration
	cmd := a.withJSON(&cobra.Command{
		Use:   "show ID [SUBSCRIPTION]",
		Short: "Show where a message stands, what came of it, and its attempts",
		Long: `Show where a message stands for each subscription that wants it, or for one, with the result that a worker or an
endpoint gave, how far a worker has come that has it, and the attempts that were kept: those that were not accepted, or
as the subscription's keep_attempts says; and what it carries. With --wait it does so once the message is settled:
delivered, dead, discarded or cancelled for all that it is asked for, or when that time is over.`,
		Example: "  postrider messages show 42 billing --wait 30s",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args[:1])
			if err != nil {
				return err
			}
			if wait < 0 {
				return fmt.Errorf("--wait %s: must be 0s or more, such as 30s", wait)
			}
			subscription := ""
			if len(args) > 1 {
				subscription = args[1]
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				m, err := admin.AwaitMessage(ctx, db, ids[0], subscription, wait)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(m)
				}
				a.printDeliveries(m)
				return nil
			})
		},
	})
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait until the message is settled")
	return cmd
}

func (a *app) printDeliveries(m admin.Deliveries) {
	line := func(name, format string, args ...any) {
		a.printf("%-13s %s\n", name, human.OneLine(fmt.Sprintf(format, args...)))
	}
	line("id", "%d", m.ID)
	line("topic", "%s", m.Topic)
	if m.Key != nil {
		line("key", "%s", *m.Key)
	}
	line("created", "%s (%s)", m.CreatedAt.Format(time.RFC3339), human.Ago(m.Now, m.CreatedAt))
	for _, d := range m.List {
		a.printf("\n")
		line("subscription", "%s", d.Subscription)
		line("status", "%s", d.Status)
		if d.Reason != nil {
			line("reason", "%s", *d.Reason)
		}
		if d.Attempts != nil {
			line("attempts", "%d", *d.Attempts)
		}
		if d.Due != nil {
			line("due", "%s (%s)", d.Due.Format(time.RFC3339), human.Ago(m.Now, *d.Due))
		}
		if d.Progress != nil {
			line("progress", "%v %% %s", d.Progress.Percent, d.Progress.Note)
		}
		if d.Result != nil {
			line("result", "%s", compact(d.Result))
		}
		a.printAttempts(m.Now, d.Kept)
	}
	if m.Content != nil {
		a.printf("\n")
		if m.Content.Headers != nil {
			line("headers", "%s", m.Content.Headers)
		}
		a.printf("%s\n", contents(m.Content))
	}
}

func (a *app) printAttempts(now time.Time, kept []admin.Attempt) {
	if len(kept) == 0 {
		return
	}
	t := newTable(">ATTEMPT", "STARTED", ">TOOK", "OUTCOME", "BY", "REASON")
	for _, k := range kept {
		by := cmp.Or(orEmpty(k.Worker), orEmpty(k.Relay), "-")
		t.add(fmt.Sprint(k.Number), human.Ago(now, k.Started), k.Took.Round(time.Millisecond).String(), k.Outcome, by, cmp.Or(orEmpty(k.Reason), "-"))
	}
	t.print(a.out)
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func compact(text json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return string(text)
	}
	return b.String()
}
