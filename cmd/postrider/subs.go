package main

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/destination"
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

// subscriptionView is a subscription in a listing; the keys are stable.
type subscriptionView struct {
	Name         string          `json:"name"`
	State        string          `json:"state"`
	PausedReason string          `json:"paused_reason"`
	Topics       []string        `json:"topics"`
	Sink         string          `json:"sink"`
	Settings     json.RawMessage `json:"settings"`
	CreatedAt    time.Time       `json:"created_at"`
	UpdatedAt    time.Time       `json:"updated_at"`
}

func (a *app) subsList(ctx context.Context, db *dbconn.Conn) error {
	rows, err := db.Query(ctx, `
		SELECT name, state, coalesce(paused_reason, ''), topics, sink, settings::text, created_at, updated_at
		FROM postrider.subscriptions ORDER BY name`)
	if err != nil {
		return err
	}
	views := []subscriptionView{}
	var v subscriptionView
	var settings string
	_, err = pgx.ForEachRow(rows, []any{&v.Name, &v.State, &v.PausedReason, &v.Topics, &v.Sink, &settings, &v.CreatedAt, &v.UpdatedAt}, func() error {
		v.Sink, v.Settings = destination.Redact(v.Sink), destination.RedactSettings(json.RawMessage(settings))
		views = append(views, v)
		v.Topics = nil
		return nil
	})
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
	for _, name := range subscription.SettingNames {
		if value, ok := m[name]; ok {
			text, _ := json.Marshal(value)
			pairs = append(pairs, name+"="+strings.Trim(string(text), `"`))
		}
	}
	return strings.Join(pairs, " ")
}
