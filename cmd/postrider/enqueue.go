package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/outbox/topic"
	"github.com/postrider/postrider/sinks"
)

// enqueueFlags are the flags of enqueue as they were given.
type enqueueFlags struct {
	key, deliverAt string
	headers        []string
	bytes          bool
	priority       int
	unique, scope  string
	replace        bool
}

func (a *app) enqueueCommand() *cobra.Command {
	var f enqueueFlags
	cmd := &cobra.Command{
		Use:   "enqueue TOPIC [PAYLOAD|-]",
		Short: "Put one message into the outbox and print its id",
		Long:  "Put one message into the outbox and print its id. PAYLOAD is JSON, or anything with --bytes; - reads it from standard input;\nwithout one it is {}. With --unique-key,\nthe id may be that of another message, which has the key: then the word duplicate follows.",
		Example: `  postrider enqueue orders.created '{"id": 42}' --key customer-7
  postrider enqueue reports.due --deliver-at 2026-01-31T12:00:00Z
  cat invoice.pdf | postrider enqueue invoices.made - --bytes --header content-type=application/pdf`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.newMessage(f, args)
			if err != nil {
				return err
			}
			// The schema's version is not looked at: an application's role may not read it.
			return a.withRawDB(cmd.Context(), func(ctx context.Context, db *dbconn.Conn, _ *config.Settings) error {
				id, duplicate, err := admin.Enqueue(ctx, db, *m)
				switch {
				case err != nil:
				case duplicate:
					a.printf("%d duplicate\n", id)
				default:
					a.printf("%d\n", id)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&f.key, "key", "", "messages of one key are delivered in order")
	cmd.Flags().StringArrayVar(&f.headers, "header", nil, "NAME=VALUE, may be given several times")
	cmd.Flags().StringVar(&f.deliverAt, "deliver-at", "", "a time such as 2026-01-31T12:00:00Z, or a wait such as 10m")
	cmd.Flags().IntVar(&f.priority, "priority", sinks.DefaultPriority, "from 1 (first) to 4 (last), for subscriptions with priorities")
	cmd.Flags().StringVar(&f.unique, "unique-key", "", "names the effect that is wanted once; goes with --unique-scope")
	cmd.Flags().StringVar(&f.scope, "unique-scope", "", "pending:SUBSCRIPTION, or a time such as 1h")
	cmd.Flags().BoolVar(&f.replace, "unique-replace", false, "take the place of the message that has the key, which is cancelled unless somebody has it already; with pending:SUBSCRIPTION")
	cmd.Flags().BoolVar(&f.bytes, "bytes", false, "the payload is bytes of any kind, not JSON")
	return cmd
}

func (a *app) newMessage(f enqueueFlags, args []string) (*admin.Message, error) {
	m := admin.Message{Topic: args[0], Payload: []byte("{}"), Bytes: f.bytes}
	if err := topic.Validate(m.Topic); err != nil {
		return nil, err
	}
	if err := f.set(&m); err != nil {
		return nil, err
	}
	if len(args) == 2 {
		m.Payload = []byte(args[1])
		if args[1] == "-" {
			var err error
			if m.Payload, err = io.ReadAll(a.in); err != nil {
				return nil, fmt.Errorf("read the payload from standard input: %w", err)
			}
		}
	} else if f.bytes {
		m.Payload = []byte{}
	}
	if !f.bytes {
		var v any
		if err := json.Unmarshal(m.Payload, &v); err != nil {
			return nil, fmt.Errorf("the payload is not JSON (%w): quote it for the shell, or use --bytes", err)
		}
	}
	return &m, nil
}

func (f enqueueFlags) set(m *admin.Message) error {
	if f.key != "" {
		m.Key = &f.key
	}
	if len(f.headers) > 0 {
		headers := map[string]string{}
		for _, h := range f.headers {
			name, value, ok := strings.Cut(h, "=")
			if !ok || name == "" {
				return fmt.Errorf("header %q: must be NAME=VALUE", h)
			}
			headers[name] = value
		}
		text, err := json.Marshal(headers)
		if err != nil {
			return err
		}
		m.Headers = new(string(text))
	}
	if f.priority < 1 || f.priority > 4 {
		return fmt.Errorf("priority %d: must be from 1 (first) to 4 (last); %d is the default", f.priority, sinks.DefaultPriority)
	}
	m.Priority = &f.priority
	if err := f.setUnique(m); err != nil {
		return err
	}
	return f.setDue(m)
}

func (f enqueueFlags) setUnique(m *admin.Message) error {
	if (f.unique == "") != (f.scope == "") {
		return fmt.Errorf("unique-key %q with unique-scope %q: give both or neither", f.unique, f.scope)
	}
	if f.replace && f.unique == "" {
		return errors.New("unique-replace true without a unique-key: give --unique-key KEY --unique-scope pending:SUBSCRIPTION")
	}
	m.UniqueReplace = f.replace
	if f.unique != "" {
		m.UniqueKey, m.UniqueScope = &f.unique, &f.scope
	}
	return nil
}

func (f enqueueFlags) setDue(m *admin.Message) error {
	if f.deliverAt == "" {
		return nil
	}
	if at, err := time.Parse(time.RFC3339, f.deliverAt); err == nil {
		m.DeliverAt = &at
		return nil
	}
	wait, err := time.ParseDuration(f.deliverAt)
	if err != nil || wait < 0 {
		return fmt.Errorf("deliver-at %q: must be a time such as 2026-01-31T12:00:00Z or a wait such as 10m", f.deliverAt)
	}
	m.DeliverIn = &wait
	return nil
}
