package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/migrations"
)

func (a *app) grantsCommand() *cobra.Command {
	var appRole, relayRole string
	cmd := &cobra.Command{
		Use:   "grants [--app ROLE] [--relay ROLE]",
		Short: "Print the SQL of least privilege for applications and relays",
		Long:  "Print the SQL that lets one role enqueue messages and nothing else, and another run relays and these commands.\nRun it as the schema's owner, after `postrider migrate`; ALTER ROLE … REPLICATION needs a superuser.",
		Example: "  postrider grants --app shop --relay postrider | psql\n" +
			"  postrider grants --relay postrider",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if appRole == "" && relayRole == "" {
				return errors.New("no role: give --app ROLE, --relay ROLE or both")
			}
			if appRole != "" {
				a.printf("-- An application: it may enqueue messages, and nothing else.\n%s", migrations.AppGrants(appRole))
			}
			if relayRole != "" {
				a.printf("-- A relay, and the commands that look after it.\n%s", migrations.RelayGrants(relayRole))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&appRole, "app", "", "role of an application")
	cmd.Flags().StringVar(&relayRole, "relay", "", "role of a relay")
	return cmd
}
