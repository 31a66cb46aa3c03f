package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/strict"
)

// app is what all commands share.
type app struct {
	in       io.Reader
	out, err io.Writer

	databaseURL string // the flag, which wins over the environment
	json        bool
}

// sameSignal is how long after a signal another one still counts as the same.
const sameSignal = time.Second

// execute runs one command line and returns the exit status. An error is printed here and nowhere else.
func execute(args []string, in io.Reader, out, errOut io.Writer) int {
	signals, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The first signal asks for a clean stop; later ones have their usual effect and end the process at once. Supervisors and
	// shells often send the first twice, to the process and to its group: that is one request.
	context.AfterFunc(signals, func() {
		cancel()
		time.AfterFunc(sameSignal, stop)
	})

	root := newRoot(&app{in: in, out: out, err: errOut})
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(errOut, "postrider: %s\n", dbconn.Explain(err))
		return admin.CodeOf(err).ExitStatus()
	}
	return 0
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "postrider",
		Short:         "Turns a PostgreSQL table into publish/subscribe and a job server",
		Long:          "Postrider delivers each committed message of an outbox table, at least once, to every subscription that matches its topic.\n\nSettings come from the environment: `postrider settings` lists them.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       buildVersion(),
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate(versionLine())
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.databaseURL, "database-url", "", "PostgreSQL connection string (default: $POSTRIDER_DATABASE_URL)")
	root.AddCommand(
		a.runCommand(), a.migrateCommand(), a.grantsCommand(), a.statusCommand(), a.topCommand(), a.eventsCommand(), a.subsCommand(), a.parkedCommand(), a.schedulesCommand(), a.messagesCommand(), a.cancelCommand(), a.operationsCommand(),
		a.enqueueCommand(), a.doctorCommand(), a.rebaseCommand(), a.inboxCommand(), a.adoptCommand(), a.uninstallCommand(), a.versionCommand(), a.settingsCommand())
	return root
}

// group makes a command that only holds others; without one of them it prints its help, and an unknown one is an error.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	text := fmt.Sprintf("unknown command %q for %q: `%s --help` lists them", args[0], cmd.CommandPath(), cmd.CommandPath())
	if near := strict.Nearest(args[0], names); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return errors.New(text)
}

// withJSON adds the flag --json to a command.
func (a *app) withJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// settings reads the environment and the global flags. Variables that nobody reads are warned about.
func (a *app) settings() (*config.Settings, error) {
	s, err := config.Load(a.databaseURL)
	if err != nil {
		return nil, err
	}
	logger := a.logger(s, s.Secrets())
	for _, text := range s.Warnings() {
		logger.Warn(text)
	}
	return s, nil
}

// printf writes to the command's output. A reader that has gone away is no error of ours.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }
