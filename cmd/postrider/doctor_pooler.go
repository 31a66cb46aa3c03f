package main

import (
	"context"
	"fmt"
)

// checkPooler finds out whether a connection pooler sits in between, and whether it hands out its server connections per
// transaction. A pooler makes up the process id that it gives a client at the start; in transaction mode, two clients that
// are connected at the same time can end up with one server process, and settings do not stay.
func (d *doctor) checkPooler(ctx context.Context) error {
	own, err := d.backend(ctx)
	if err != nil {
		return err
	}
	second, err := connect(ctx, d.settings.DatabaseURL)
	if err != nil {
		return err
	}
	defer closeConn(second)
	if _, err := d.db.Exec(ctx, "SET postrider.doctor = 'here'"); err != nil {
		return err
	}
	shared := false
	for range 4 {
		var other uint32
		var foreign string
		if err := second.QueryRow(ctx, "SELECT pg_backend_pid()::bigint, coalesce(current_setting('postrider.doctor', true), '')").Scan(&other, &foreign); err != nil {
			return err
		}
		mine, err := d.backend(ctx)
		if err != nil {
			return err
		}
		shared = shared || other == mine || mine != own || foreign != ""
	}
	switch {
	case shared:
		d.reportTransactionPooler()
	case own != d.db.PgConn().PID():
		message := fmt.Sprintf("a pooler or proxy sits in between (process %d calls itself %d), not in transaction mode", own, d.db.PgConn().PID())
		d.report("pooler", statusNote, message, "fine for the timer and LISTEN; streaming takes a pooler that passes replication connections (PgBouncer 1.23 and newer)")
	default:
		d.report("pooler", statusOK, "no pooler sits in between")
	}
	return nil
}

// reportTransactionPooler judges a pooler in transaction mode: the timer works through it, if nothing is prepared.
func (d *doctor) reportTransactionPooler() {
	timer, unprepared := d.settings.Source == "timer", hasExecMode(d.settings.DatabaseURL)
	if timer && unprepared {
		d.report("pooler", statusOK, "a pooler in transaction mode sits in between: works with POSTRIDER_SOURCE=timer and default_query_exec_mode")
		return
	}
	status := statusFail
	if timer || unprepared && d.settings.Source == "auto" {
		status = statusWarn
	}
	d.report("pooler", status, "a pooler in transaction mode sits in between: neither streaming, LISTEN nor prepared statements pass through it",
		"connect the relay to PostgreSQL itself or through a pool in session mode, or else",
		"set POSTRIDER_SOURCE=timer, and add default_query_exec_mode=exec to POSTRIDER_DATABASE_URL")
}

func (d *doctor) backend(ctx context.Context) (pid uint32, err error) {
	err = d.db.QueryRow(ctx, "SELECT pg_backend_pid()::bigint").Scan(&pid)
	return pid, err
}
