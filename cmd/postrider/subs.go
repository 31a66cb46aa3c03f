package main

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/relay/subscription"
)

func (a *app) subsCommand() *cobra.Command {
	return group("subs", "List and change subscriptions",
		a.subsListCommand(), a.subsApplyCommand(), a.subsPauseCommand(), a.subsResumeCommand(), a.subsReplayCommand(), a.subsRemoveCommand())
}

func (a *app) subsListCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "list",
		Short: "List the subscriptions",
		Long:  "List the subscriptions with their topics, sinks and settings. Secrets in sinks are not shown.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDB(cmd.Context(), a.subsList)
		},
	})
}

func (a *app) subsList(ctx context.Context, db *dbconn.Conn) error {
	views, err := admin.Subscriptions(ctx, db)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(views)
	}
	if len(views) == 0 {
		a.printf("There are no subscriptions.\n")
		return nil
	}
	list := newTable("SUBSCRIPTION", "STATE", "TOPICS", "SINK", "SETTINGS", "PAUSED BECAUSE")
	for _, v := range views {
		list.add(v.Name, v.State, strings.Join(v.Topics, ","), v.Sink, cmp.Or(flat(v.Settings), "defaults"), human.Clip(v.PausedReason, 80))
	}
	list.print(a.out)
	return nil
}

// flat writes a JSON object as name=value pairs.
func flat(object json.RawMessage) string {
	var m map[string]any
	if json.Unmarshal(object, &m) != nil {
		return string(object)
	}
	var pairs []string
	for _, name := range subscription.Names() {
		if value, ok := m[name]; ok {
			pairs = append(pairs, name+"="+settingText(value))
		}
	}
	return strings.Join(pairs, " ")
}

// settingText writes a value as JSON has it, but a text as it is.
func settingText(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	text, _ := json.Marshal(value) // which was read from JSON
	return string(text)
}
