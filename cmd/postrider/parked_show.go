package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

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
				return a.parkedShow(ctx, db, args[0], ids[0])
			})
		},
	})
}

// parkedMessage is a parked message with its contents. In JSON, one of payload and body_base64 is there, unless there
// is no copy of what the message carries.
type parkedMessage struct {
	parkedView
	Headers json.RawMessage `json:"headers"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Body    *string         `json:"body_base64,omitempty"`

	body []byte
}

func (a *app) parkedShow(ctx context.Context, db *dbconn.Conn, name string, id int64) error {
	if err := requireSubscription(ctx, db, name); err != nil {
		return err
	}
	var m parkedMessage
	var payload, headers *string
	var now time.Time
	err := db.QueryRow(ctx, "SELECT "+parkedColumns+", clock_timestamp(), payload::text, headers::text, body FROM postrider.parked WHERE subscription = $1 AND id = $2 ORDER BY parked.created_at DESC LIMIT 1", name, id).
		Scan(&m.Subscription, &m.ID, &m.State, &m.Attempts, &m.Due, &m.Topic, &m.Key, &m.Reason, &m.ParkedAt, &m.CreatedAt, &now, &payload, &headers, &m.body)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("message %d of subscription %q is not parked: the view postrider.deliveries tells its status", id, name)
	}
	if err != nil {
		return err
	}
	if headers != nil {
		m.Headers = json.RawMessage(*headers)
	}
	if payload != nil {
		m.Payload = json.RawMessage(*payload)
	} else if m.body != nil {
		m.Body = new(base64.StdEncoding.EncodeToString(m.body))
	}
	if a.json {
		return a.printJSON(m)
	}
	a.printMessage(m, now)
	return nil
}

func (a *app) printMessage(m parkedMessage, now time.Time) {
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
		line("due", "%s (%s)", m.Due.Format(time.RFC3339), human.Ago(now, *m.Due))
	}
	line("created", "%s (%s)", m.CreatedAt.Format(time.RFC3339), human.Ago(now, m.CreatedAt))
	line("parked", "%s (%s)", m.ParkedAt.Format(time.RFC3339), human.Ago(now, m.ParkedAt))
	line("topic", "%s", m.Topic)
	if m.Key != nil {
		line("key", "%s", *m.Key)
	}
	if m.Headers != nil {
		line("headers", "%s", m.Headers)
	}
	a.printf("\n%s\n", m.contents())
}

// contents is the payload as a person can read it: indented JSON, text, or a hex dump.
func (m parkedMessage) contents() string {
	if m.Payload != nil {
		var b bytes.Buffer
		if json.Indent(&b, m.Payload, "", "  ") == nil {
			return b.String()
		}
		return string(m.Payload)
	}
	if m.body == nil {
		return "There is no copy of what it carries."
	}
	if text := string(m.body); utf8.Valid(m.body) && text == human.OneLine(text) {
		return text
	}
	return hex.Dump(m.body)
}
