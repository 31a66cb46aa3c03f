package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/internal/human"
)

// oldestServer is the oldest server_version_num that has all the schema uses.
const oldestServer = 140000

// connect reports whether there is a server to examine.
func (d *doctor) connect(ctx context.Context) bool {
	db, err := admin.Connect(ctx, d.DatabaseURL)
	if err != nil {
		if _, standby := errors.AsType[*dberr.Standby](err); standby && len(dberr.Codes(err)) == 0 {
			d.report("primary", statusFail, dberr.Cause(err), "point POSTRIDER_DATABASE_URL at the primary, or name all hosts: the primary is found")
			return false
		}
		d.report("connection", statusFail, human.OneLine(dberr.Cause(err)), connectRemedy(err, d.DatabaseURL)...)
		return false
	}
	d.db = db
	var version string
	err = db.QueryRow(ctx, "SELECT current_user::text, current_setting('server_version'), current_setting('server_version_num')::int").
		Scan(&d.role, &version, &d.version)
	if err != nil {
		d.report("connection", statusFail, human.OneLine(err.Error()))
		admin.Close(db)
		return false
	}
	d.report("connection", statusOK, fmt.Sprintf("database %q at %s as role %q", db.Config().Database, db.Config().Host, d.role))
	if d.version < oldestServer {
		d.report("version", statusFail, fmt.Sprintf("PostgreSQL %s is too old", version), "upgrade the server to PostgreSQL 14 or newer")
		admin.Close(db)
		return false
	}
	d.report("version", statusOK, "PostgreSQL "+version)
	return true
}

func (d *doctor) checkPrimary(ctx context.Context) error {
	var standby bool
	if err := d.db.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err
	}
	if standby {
		d.report("primary", statusFail, "this server is a standby: snapshots of a standby leave out running transactions",
			"point POSTRIDER_DATABASE_URL at the primary, or name all hosts and add target_session_attrs=read-write")
		return nil
	}
	d.report("primary", statusOK, "the server is a primary")
	return nil
}

func (d *doctor) checkClock(ctx context.Context) error {
	before := time.Now()
	var server time.Time
	if err := d.db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&server); err != nil {
		return err
	}
	d.findings = append(d.findings, clockFinding(before, time.Now(), server))
	return nil
}

// clockFinding compares the server's clock with ours just before and just after it was asked.
func clockFinding(before, after, server time.Time) finding {
	skew := time.Duration(0)
	if server.Before(before) {
		skew = server.Sub(before)
	} else if server.After(after) {
		skew = server.Sub(after)
	}
	if skew.Abs() <= time.Second {
		return finding{"clock", statusOK, "this host and the server agree on the time", nil}
	}
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	return finding{"clock", statusWarn,
		fmt.Sprintf("the server's clock is %s %s this host's: deliver_at and retries go by the server's clock", human.Duration(skew.Abs()), way),
		[]string{"synchronise both with NTP"}}
}
