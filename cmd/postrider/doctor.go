package main

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/admin/doctor"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/human"
)

func (a *app) doctorCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "doctor",
		Short: "Check the database and say what mends what is wrong",
		Long: `Check the server, the schema, the privileges of the connecting role and the state of the subscriptions. For each thing that
is wrong it prints the SQL, setting or command that mends it. The exit status is 1 if something does not work.
Run it with the settings and as the role of the relay. As the role of an application or a worker it says whether that role has what
it needs and no more.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.settings()
			if err != nil {
				return err
			}
			if err := s.RequireDatabase(); err != nil {
				return err
			}
			return a.printFindings(doctor.Examine(cmd.Context(), doctorOptions(s)))
		},
	})
}

// doctorOptions are what an examination needs to know of this process.
func doctorOptions(s *config.Settings) doctor.Options {
	return doctor.Options{DatabaseURL: string(s.DatabaseURL), ReplicaURL: string(s.ReplicaURL), Follow: string(s.Follow), Retention: time.Duration(s.Retention), MaxMessage: int64(s.MaxMessage)}
}

func (a *app) printFindings(findings []doctor.Finding) error {
	counts := map[string]int{}
	for _, f := range findings {
		counts[f.Status]++
	}
	if a.json {
		if err := a.printJSON(map[string]any{"findings": findings}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			a.printFinding(f)
		}
		a.printf("\n%d ok, %s, %s, %d failed\n", counts[doctor.StatusOK], human.Plural(int64(counts[doctor.StatusNote]), "note"),
			human.Plural(int64(counts[doctor.StatusWarn]), "warning"), counts[doctor.StatusFail])
	}
	if n := counts[doctor.StatusFail]; n > 0 {
		return errors.New(human.Plural(int64(n), "check") + " failed")
	}
	return nil
}

func (a *app) printFinding(f doctor.Finding) {
	a.printf("%-5s %-14s %s\n", f.Status, f.Name, strings.ReplaceAll(f.Message, "\n", "\n"+strings.Repeat(" ", 21)))
	for _, line := range f.Remedy {
		a.printf("%21s%s\n", "→ ", line)
	}
}
