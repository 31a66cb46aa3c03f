package doctor

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
func (d *examination) connect(ctx context.Context) bool {
	db, err := admin.Connect(ctx, d.DatabaseURL)
	if err != nil {
		if _, standby := errors.AsType[*dberr.Standby](err); standby && len(dberr.Codes(err)) == 0 {
			d.report("primary", StatusFail, dberr.Cause(err), "point POSTRIDER_DATABASE_URL at the primary, or name all hosts: the primary is found")
			return false
		}
		d.report("connection", StatusFail, human.OneLine(dberr.Cause(err)), connectRemedy(err, d.DatabaseURL)...)
		return false
	}
	d.db = db
	var version string
	err = db.QueryRow(ctx, "SELECT current_user::text, current_setting('server_version'), current_setting('server_version_num')::int").
		Scan(&d.role, &version, &d.version)
	if err != nil {
		d.report("connection", StatusFail, human.OneLine(err.Error()))
		admin.Close(db)
		return false
	}
	d.report("connection", StatusOK, fmt.Sprintf("database %q at %s as role %q", db.Config().Database, db.Config().Host, d.role))
	if d.version < oldestServer {
		d.report("version", StatusFail, fmt.Sprintf("PostgreSQL %s is too old", version), "upgrade the server to PostgreSQL 14 or newer")
		admin.Close(db)
		return false
	}
	d.report("version", StatusOK, "PostgreSQL "+version)
	return true
}

func (d *examination) checkPrimary(ctx context.Context) error {
	var standby bool
	if err := d.db.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err
	}
	if standby {
		d.report("primary", StatusFail, "this server is a standby: snapshots of a standby leave out running transactions",
			"point POSTRIDER_DATABASE_URL at the primary, or name all hosts and add target_session_attrs=read-write")
		return nil
	}
	d.report("primary", StatusOK, "the server is a primary")
	return nil
}

func (d *examination) checkClock(ctx context.Context) error {
	before := time.Now()
	var server time.Time
	if err := d.db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&server); err != nil {
		return err
	}
	d.findings = append(d.findings, clockFinding(before, time.Now(), server))
	return nil
}

// clockFinding compares the server's clock with ours just before and just after it was asked.
func clockFinding(before, after, server time.Time) Finding {
	skew := time.Duration(0)
	if server.Before(before) {
		skew = server.Sub(before)
	} else if server.After(after) {
		skew = server.Sub(after)
	}
	if skew.Abs() <= time.Second {
		return Finding{"clock", StatusOK, "this host and the server agree on the time", nil}
	}
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	return Finding{"clock", StatusWarn,
		fmt.Sprintf("the server's clock is %s %s this host's: deliver_at and retries go by the server's clock", human.Duration(skew.Abs()), way),
		[]string{"synchronise both with NTP"}}
}
