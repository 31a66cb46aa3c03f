package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) parkedShowCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "show SUBSCRIPTION ID",
		Short: "Show one parked message with its payload",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args[1:])
			if err != nil {
				return err
			}
			return a.withDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn) error {
				m, err := admin.ShowParked(ctx, db, args[0], ids[0])
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(m)
				}
				a.printMessage(m)
				return nil
			})
		},
	})
}

func (a *app) printMessage(m admin.ParkedMessage) {
	line := func(name, format string, args ...any) {
		a.printf("%-13s %s\n", name, human.OneLine(fmt.Sprintf(format, args...)))
	}
	line("subscription", "%s", m.Subscription)
	line("id", "%d", m.ID)
	line("state", "%s", m.State)
	if m.Reason != "" {
		line("reason", "%s", m.Reason)
	}
	line("attempts", "%d", m.Attempts)
	if m.Due != nil {
		line("due", "%s (%s)", m.Due.Format(time.RFC3339), human.Ago(m.Now, *m.Due))
	}
	line("created", "%s (%s)", m.CreatedAt.Format(time.RFC3339), human.Ago(m.Now, m.CreatedAt))
	line("parked", "%s (%s)", m.ParkedAt.Format(time.RFC3339), human.Ago(m.Now, m.ParkedAt))
	line("topic", "%s", m.Topic)
	if m.Key != nil {
		line("key", "%s", *m.Key)
	}
	if m.Headers != nil {
		line("headers", "%s", m.Headers)
	}
	a.printf("\n%s\n", contents(&m.Content))
}

// contents is the payload as a person can read it: indented JSON, text, or a hex dump.
func contents(m *admin.Content) string {
	if m.Unreadable != "" {
		return "What it carries cannot be read: " + human.OneLine(m.Unreadable)
	}
	if m.Payload != nil {
		var b bytes.Buffer
		if json.Indent(&b, m.Payload, "", "  ") == nil {
			return b.String()
		}
		return string(m.Payload)
	}
	if m.Body == nil {
		return "There is no copy of what it carries."
	}
	if text := string(m.Body); utf8.Valid(m.Body) && text == human.OneLine(text) {
		return text
	}
	return hex.Dump(m.Body)
}
