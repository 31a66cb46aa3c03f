package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/human"
	"github.com/postrider/postrider/migrations"
)

// checkSegments finds what keeps the ring from going round: segments that are too long or too short for the retention, and locks of
// sessions and prepared transactions on segments that could be emptied.
func (d *examination) checkSegments(ctx context.Context) error {
	n := len(d.findings)
	var length int64
	if err := d.db.QueryRow(ctx, "SELECT segment_seconds FROM postrider.source").Scan(&length); err != nil {
		return err
	}
	retention, each := d.Retention, time.Duration(length)*time.Second
	if ideal := max(retention/(migrations.Segments-4), 2*time.Hour); each > max(retention, ideal) {
		d.report("segments", StatusNote, fmt.Sprintf("a segment of the outbox is filled for %s, and emptied afterwards: settled messages stay longer than the retention of %s", human.Duration(each), human.Duration(retention)),
			fmt.Sprintf("SELECT postrider.set_segment_length('%d seconds');", int64(ideal/time.Second)))
	}
	rows, err := d.db.Query(ctx, `
		SELECT string_agg(s.n::text, ', ' ORDER BY s.n), h.pid, h.gid, coalesce(h.role, ''), coalesce(h.application, ''), h.state,
		       extract(epoch FROM clock_timestamp() - h.since)::float8
		FROM generate_series(0, $2::int - 1) s (n) CROSS JOIN LATERAL postrider.lock_holders('outbox_' || s.n) h
		WHERE coalesce(h.since < clock_timestamp() - $1::bigint * interval '1 second', false)
		   OR h.since IS NULL AND postrider.segment_is_old(s.n::smallint, $3::bigint * interval '1 second')
		GROUP BY 2, 3, 4, 5, 6, h.since ORDER BY h.since`, int64(d.OldTransaction.Seconds()), migrations.Segments, int64(retention.Seconds()))
	if err != nil {
		return err
	}
	var (
		list, role, application, state string
		pid                            *int32
		gid                            *string
		age                            *float64
	)
	_, err = pgx.ForEachRow(rows, []any{&list, &pid, &gid, &role, &application, &state, &age}, func() error {
		who, remedy := "", ""
		if pid != nil {
			who = fmt.Sprintf("process %d (role %q, application %q, %s)", *pid, role, application, state)
			remedy = fmt.Sprintf("SELECT pg_terminate_backend(%d);", *pid)
		} else if gid != nil {
			who = fmt.Sprintf("the prepared transaction %q of role %q", *gid, role)
			remedy = fmt.Sprintf("COMMIT PREPARED %s;  -- or ROLLBACK PREPARED", quoteText(*gid))
		}
		since := ""
		if age != nil {
			since = " for " + human.Duration(human.Seconds(*age))
		}
		d.report("segments", StatusWarn, fmt.Sprintf("%s has used segments of the outbox%s (%s): they are not emptied meanwhile", who, since, list), remedy)
		return nil
	})
	if err == nil && len(d.findings) == n {
		d.report("segments", StatusOK, "nobody keeps segments of the outbox from being emptied")
	}
	return err
}

// checkMaxMessage says how large a message may be.
func (d *examination) checkMaxMessage(ctx context.Context) error {
	var most int64
	if err := d.db.QueryRow(ctx, "SELECT postrider.max_message()").Scan(&most); err != nil {
		return err
	}
	if want := d.MaxMessage; want != 0 && want != most {
		d.report("message size", StatusNote, fmt.Sprintf("the database accepts messages up to %s, POSTRIDER_MAX_MESSAGE says %s", human.Size(most), human.Size(want)),
			fmt.Sprintf("start the relay again, or: SELECT postrider.set_max_message(%d);", want))
		return nil
	}
	d.report("message size", StatusOK, fmt.Sprintf("messages up to %s are accepted", human.Size(most)))
	return nil
}
