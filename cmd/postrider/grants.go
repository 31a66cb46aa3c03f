package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/migrations"
)

func (a *app) grantsCommand() *cobra.Command {
	var appRole, relayRole, workerRole string
	cmd := &cobra.Command{
		Use:   "grants [--app ROLE] [--relay ROLE] [--worker ROLE]",
		Short: "Print the SQL of least privilege for applications, relays and workers",
		Long:  "Print the SQL that lets one role enqueue messages and nothing else, another run relays and these commands, and\na third say what came of asynchronous deliveries, which receivers without access to the database do by callbacks.\nRun it as the schema's owner, after `postrider migrate`; ALTER ROLE … REPLICATION needs a superuser.",
		Example: "  postrider grants --app shop --relay postrider | psql\n" +
			"  postrider grants --relay postrider",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if appRole == "" && relayRole == "" && workerRole == "" {
				return errors.New("no role: give --app ROLE, --relay ROLE or --worker ROLE")
			}
			if appRole != "" {
				a.printf("-- An application: it may enqueue messages, and nothing else.\n%s", migrations.AppGrants(appRole))
			}
			if relayRole != "" {
				a.printf("-- A relay, and the commands that look after it.\n%s", migrations.RelayGrants(relayRole))
			}
			if workerRole != "" {
				a.printf("-- A worker: it may settle asynchronous deliveries, and nothing else.\n%s", migrations.WorkerGrants(workerRole))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&appRole, "app", "", "role of an application")
	cmd.Flags().StringVar(&relayRole, "relay", "", "role of a relay")
	cmd.Flags().StringVar(&workerRole, "worker", "", "role of a worker that settles asynchronous deliveries")
	return cmd
}
