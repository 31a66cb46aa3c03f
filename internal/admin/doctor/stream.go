package doctor

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/migrations"
)

// checkStreaming looks at all that logical replication needs of the server and the role.
func (d *examination) checkStreaming(ctx context.Context) error {
	if err := d.checkLeftovers(ctx); err != nil {
		return err
	}
	if !d.wantsStream() {
		d.report("wal_level", StatusOK, "POSTRIDER_FOLLOW="+d.Follow+" needs no logical replication")
		return nil
	}
	var level string
	if err := d.db.QueryRow(ctx, "SELECT current_setting('wal_level')").Scan(&level); err != nil {
		return err
	}
	if level != "logical" {
		d.report("wal_level", d.streamStatus(StatusNote),
			fmt.Sprintf("wal_level is %s: new messages are found on the timer. Streaming, with wal_level logical, delivers them sooner and reads less", level),
			alterSystem("wal_level", "logical")...)
		return nil
	}
	d.report("wal_level", StatusOK, "logical: new messages can be streamed")
	if err := d.checkReplicationRole(ctx); err != nil {
		return err
	}
	return d.checkSlots(ctx)
}

func (d *examination) checkReplicationRole(ctx context.Context) error {
	var allowed bool
	if err := d.db.QueryRow(ctx, "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&allowed); err != nil {
		return err
	}
	if allowed {
		d.report("replication", StatusOK, fmt.Sprintf("role %q may replicate, so it can stream; %s", d.role, replicationMeans))
		return nil
	}
	d.report("replication", d.streamStatus(StatusNote), fmt.Sprintf("role %q lacks REPLICATION: new messages are found on the timer. With it the relay streams; %s", d.role, replicationMeans),
		fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteName(d.role)),
		fmt.Sprintf("on RDS: GRANT rds_replication TO %s;", quoteName(d.role)),
		"or, if it is not to have it: POSTRIDER_FOLLOW=timer")
	return nil
}

// checkSlots wants two replication slots and two walsenders free; what relays use already counts as free.
func (d *examination) checkSlots(ctx context.Context) error {
	var most, used, ours, mostSenders, senders int
	err := d.db.QueryRow(ctx, `
		SELECT current_setting('max_replication_slots')::int, count(*)::int,
		       (count(*) FILTER (WHERE active AND slot_name LIKE 'postrider\_%'))::int,
		       current_setting('max_wal_senders')::int, (SELECT count(*)::int FROM pg_stat_get_wal_senders())
		FROM pg_replication_slots`).Scan(&most, &used, &ours, &mostSenders, &senders)
	if err != nil {
		return err
	}
	for _, r := range []struct {
		name, what, setting string
		most, used          int
	}{
		{"slots", "replication slots", "max_replication_slots", most, used},
		{"senders", "WAL senders", "max_wal_senders", mostSenders, senders},
	} {
		message := fmt.Sprintf("%d of %d %s are taken", r.used, r.most, r.what)
		if r.most-r.used+ours >= 2 {
			d.report(r.name, StatusOK, message)
			continue
		}
		d.report(r.name, d.streamStatus(StatusWarn), message+": a relay streams only if two are free", alterSystem(r.setting, strconv.Itoa(r.most+5))...)
	}
	return nil
}

// checkLeftovers finds slots of this database that nobody uses any more: they hold back WAL.
func (d *examination) checkLeftovers(ctx context.Context) error {
	rows, err := d.db.Query(ctx, `
		SELECT slot_name::text, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint FROM pg_replication_slots
		WHERE slot_name LIKE 'postrider\_%' AND NOT active AND database = current_database() AND NOT pg_is_in_recovery() ORDER BY 1`)
	if err != nil {
		return err
	}
	var name string
	var held int64
	_, err = pgx.ForEachRow(rows, []any{&name, &held}, func() error {
		d.report("leftover slot", StatusWarn, fmt.Sprintf("slot %s is used by nobody and holds back %s of WAL", name, human.Bytes(held)),
			fmt.Sprintf("SELECT pg_drop_replication_slot(%s);", quoteText(name)))
		return nil
	})
	return err
}

// checkPublication looks at the publication that the stream is made of.
func (d *examination) checkPublication(ctx context.Context) error {
	if !d.wantsStream() {
		return nil
	}
	const create = "CREATE PUBLICATION postrider FOR TABLE postrider.outbox WITH (publish = 'insert', publish_via_partition_root = true);"
	found, err := migrations.FindPublication(ctx, d.db)
	if err != nil {
		return err
	}
	var inserts, viaRoot, outbox bool
	err = d.db.QueryRow(ctx, `
		SELECT coalesce(bool_and(pubinsert), false), coalesce(bool_and(pubviaroot), false),
		       coalesce(bool_or(puballtables OR EXISTS (
		           SELECT FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid WHERE r.prpubid = p.oid AND c.relnamespace = 'postrider'::regnamespace AND c.relname LIKE 'outbox%') OR EXISTS (
		           SELECT FROM pg_depend d JOIN pg_depend n ON n.classid = d.classid AND n.objid = d.objid WHERE d.refclassid = 'pg_publication'::regclass AND d.refobjid = p.oid
		               AND n.refclassid = 'pg_namespace'::regclass AND n.refobjid = 'postrider'::regnamespace)), false)
		FROM pg_publication p WHERE pubname = 'postrider'`).Scan(&inserts, &viaRoot, &outbox)
	if err != nil {
		return err
	}
	switch status := d.streamStatus(StatusWarn); {
	case !found.Exists:
		d.report("publication", status, "the publication postrider is missing: nothing can be streamed", create)
	case found.Tables == "no table":
		d.report("publication", status, "the publication postrider does not hold the outbox: nothing is streamed", "ALTER PUBLICATION postrider ADD TABLE postrider.outbox;")
	case found.Tables != "postrider.outbox" && outbox && found.Tables != "all tables":
		d.report("publication", status, fmt.Sprintf("the publication postrider, of role %s, is for %s: other tables than the outbox make the stream dearer, and nothing is streamed", found.Owner, found.Tables),
			"ALTER PUBLICATION postrider SET TABLE postrider.outbox;  -- unless somebody else needs it as it is")
	case found.Tables != "postrider.outbox":
		d.report("publication", status, fmt.Sprintf("the publication postrider, of role %s, is for %s: it is not as Postrider makes it, so it is left alone and nothing is streamed", found.Owner, found.Tables),
			"ALTER PUBLICATION postrider RENAME TO another_name;  -- and tell those who subscribe to it; or, if nobody does: DROP PUBLICATION postrider;", create)
	case !inserts || !viaRoot:
		d.report("publication", status, "the publication postrider does not publish inserts by way of the partitioned table",
			"ALTER PUBLICATION postrider SET (publish = 'insert', publish_via_partition_root = true);")
	default:
		d.report("publication", StatusOK, "the publication holds the outbox")
	}
	return nil
}
