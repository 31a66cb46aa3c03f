package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/internal/human"
)

// farBehind is how old what a replica shows may be before it helps little.
const farBehind = time.Minute

// checkReplica looks whether the replica can be read, is one of this database, and has come as far.
func (d *examination) checkReplica(ctx context.Context) error {
	if d.ReplicaURL == "" {
		return nil
	}
	config, err := dbconn.ParseReplica(d.ReplicaURL)
	if err != nil {
		return err
	}
	const remedy = "name a hot standby of this database in POSTRIDER_REPLICA_URL, or unset it: the primary is read then"
	replica, err := dbconn.Connect(ctx, config.ConnConfig)
	if err != nil {
		d.report("replica", StatusWarn, "it cannot be read: "+human.OneLine(dberr.Cause(err)), remedy)
		return nil
	}
	defer dbconn.Close(replica.PgConn())
	var here, there, place string
	if err := d.db.QueryRow(ctx, "SELECT id::text, pg_current_wal_insert_lsn()::text FROM postrider.source").Scan(&here, &place); err != nil {
		return err
	}
	var behind int64
	var age time.Duration
	err = replica.QueryRow(ctx, `SELECT (SELECT id::text FROM postrider.source), greatest($1::pg_lsn - pg_last_wal_replay_lsn(), 0)::bigint,
		coalesce(clock_timestamp() - pg_last_xact_replay_timestamp(), '0')`, place).Scan(&there, &behind, &age)
	switch {
	case err != nil:
		d.report("replica", StatusWarn, "it cannot be read: "+human.OneLine(dberr.Cause(err)), remedy)
	case here != there:
		d.report("replica", StatusWarn, "it is one of another database: nothing is read there", remedy)
	case behind > 0 && age > farBehind:
		d.report("replica", StatusWarn, fmt.Sprintf("it is %s and %s of WAL behind: nothing is read there until it has come as far as is needed", human.Duration(age), human.Bytes(behind)),
			"look at pg_stat_replication on the primary, and at recovery conflicts on the standby")
	default:
		d.report("replica", StatusOK, fmt.Sprintf("%s can be read, and is %s of WAL behind", replica.Config().Host, human.Bytes(behind)))
	}
	return nil
}
