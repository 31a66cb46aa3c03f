package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
)

func (a *app) grantsCommand() *cobra.Command {
	var appRole, relayRole, workerRole, readerRole, subscription string
	var noStream bool
	cmd := &cobra.Command{
		Use:   "grants [--app ROLE] [--relay ROLE [--no-stream]] [--worker ROLE [--subscription NAME]] [--reader ROLE]",
		Short: "Print the SQL of least privilege for applications, relays, workers and readers",
		Long: `Print the SQL that lets one role enqueue messages and nothing else, another run relays and these commands, and
a third say what came of asynchronous deliveries, which receivers without access to the database do by callbacks. With --subscription the
worker's role may take the messages of that subscription, whose sink is sql:, in its own transactions instead. A reader may see what came of messages, as outbox.Await does, and nothing that they carry.
Run it as the schema's owner, after ` + "`postrider migrate`" + `; later migrations grant these roles what is new.

A relay that streams needs ALTER ROLE … REPLICATION, which takes a superuser to grant. PostgreSQL knows no smaller privilege for
that: a role that has it can copy the whole cluster, as pg_basebackup does. With --no-stream the relay's role does without; the
relay then finds new messages on a timer, some milliseconds later, and reads the table more often.`,
		Example: "  postrider grants --app shop --relay postrider | psql\n" +
			"  postrider grants --relay postrider --no-stream",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if appRole == "" && relayRole == "" && workerRole == "" && readerRole == "" {
				return errors.New("no role: give --app ROLE, --relay ROLE, --worker ROLE or --reader ROLE")
			}
			if noStream && relayRole == "" {
				return errors.New("--no-stream goes with --relay ROLE")
			}
			print := func(to admin.Purpose, role, hint string) {
				if role != "" {
					a.printf("-- %s.%s\n%s", to, hint, admin.Grants(to, role))
				}
			}
			print(admin.ForApplication, appRole, "")
			if noStream {
				print(admin.ForTimerRelay, relayRole, " Set POSTRIDER_FOLLOW=timer.")
			} else {
				print(admin.ForRelay, relayRole, "")
			}
			print(admin.ForReader, readerRole, "")
			return a.printWorkerGrants(workerRole, subscription)
		},
	}
	cmd.Flags().StringVar(&appRole, "app", "", "role of an application")
	cmd.Flags().StringVar(&relayRole, "relay", "", "role of a relay")
	cmd.Flags().BoolVar(&noStream, "no-stream", false, "without REPLICATION, with which a role can copy the whole cluster: the relay does not stream")
	cmd.Flags().StringVar(&subscription, "subscription", "", "the subscription, with the sink sql:, that the worker's role may take from")
	cmd.Flags().StringVar(&readerRole, "reader", "", "role that sees what came of messages")
	cmd.Flags().StringVar(&workerRole, "worker", "", "role of a worker that settles asynchronous deliveries, or takes messages in SQL")
	return cmd
}

func (a *app) printWorkerGrants(role, subscription string) error {
	switch {
	case subscription != "" && role == "":
		return errors.New("--subscription goes with --worker ROLE")
	case subscription != "":
		a.printf("-- A worker: it may take the messages of one subscription in its own transactions, and nothing else.\n%s", admin.WorkerGrants(role, subscription))
	case role != "":
		a.printf("-- %s.\n%s", admin.ForWorker, admin.Grants(admin.ForWorker, role))
	}
	return nil
}
