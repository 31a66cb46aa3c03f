package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/human"
)

// What a check may find.
const (
	statusOK   = "ok"
	statusNote = "note" // works, but something could be gained
	statusWarn = "warn" // works, but trouble is near
	statusFail = "fail" // does not work
)

// finding is what one check found; the keys are stable.
type finding struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message"`
	// Remedy is the exact SQL, setting or command that mends it, line by line.
	Remedy []string `json:"remedy,omitempty"`
}

// doctor is one examination.
type doctor struct {
	db       *dbconn.Conn
	settings *settings
	version  int // server_version_num
	role     string
	findings []finding
}

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
			if err := s.requireDatabase(); err != nil {
				return err
			}
			d := doctor{settings: s}
			d.examine(cmd.Context())
			return a.printFindings(d.findings)
		},
	})
}

// examine runs all checks that make sense; a later one may rest on what an earlier one found.
func (d *doctor) examine(ctx context.Context) {
	if !d.connect(ctx) {
		return
	}
	defer closeConn(d.db)
	run := func(name string, check func(context.Context) error) {
		if err := check(ctx); err != nil {
			d.report(name, statusWarn, "cannot be checked: "+human.OneLine(err.Error()))
		}
	}
	run("primary", d.checkPrimary)
	run("pooler", d.checkPooler)
	run("connections", d.checkConnections)
	run("clock", d.checkClock)
	if !d.checkPurpose(ctx) {
		return
	}
	run("role", d.checkAttributes)
	run("streaming", d.checkStreaming)
	run("row security", d.checkRowSecurity)
	if !d.checkSchema(ctx) {
		return
	}
	run("privileges", d.checkPrivileges)
	run("identity", d.checkIdentity)
	run("publication", d.checkPublication)
	run("notify", d.checkNotify)
	run("message size", d.checkMaxMessage)
	run("transactions", d.checkTransactions)
	run("prepared", d.checkPrepared)
	run("segments", d.checkSegments)
	run("relays", d.checkRelays)
	run("relays", d.checkUnable)
	run("subscriptions", d.checkSubscriptions)
	run("destinations", d.checkSinks)
	run("dead letters", d.checkDead)
	run("ids", d.checkSequence)
}

func (d *doctor) report(name, status, message string, remedy ...string) {
	d.findings = append(d.findings, finding{name, status, message, remedy})
}

// wantsStream reports whether the relay would stream if it could.
func (d *doctor) wantsStream() bool {
	return d.settings.Follow == "auto" || d.settings.Follow == "stream"
}

// streamStatus is how bad it is when streaming does not work: with FOLLOW=auto the timer takes its place.
func (d *doctor) streamStatus(otherwise string) string {
	if d.settings.Follow == "stream" {
		return statusFail
	}
	return otherwise
}

func (a *app) printFindings(findings []finding) error {
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
		a.printf("\n%d ok, %s, %s, %d failed\n", counts[statusOK], human.Plural(int64(counts[statusNote]), "note"),
			human.Plural(int64(counts[statusWarn]), "warning"), counts[statusFail])
	}
	if n := counts[statusFail]; n > 0 {
		return errors.New(human.Plural(int64(n), "check") + " failed")
	}
	return nil
}

func (a *app) printFinding(f finding) {
	a.printf("%-5s %-14s %s\n", f.Status, f.Name, strings.ReplaceAll(f.Message, "\n", "\n"+strings.Repeat(" ", 21)))
	for _, line := range f.Remedy {
		a.printf("%21s%s\n", "→ ", line)
	}
}

// alterSystem is the remedy for a server setting that takes a restart.
func alterSystem(name, value string) []string {
	return []string{fmt.Sprintf("ALTER SYSTEM SET %s = %s;", name, value), "then restart the server (managed services: change it in the parameter group)"}
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
