package doctor

import (
	"context"
	"fmt"
)

// checkSequence finds a sequence that was set back, or left behind by a copy: new messages get ids that are there.
func (d *examination) checkSequence(ctx context.Context) error {
	var may bool
	if err := d.db.QueryRow(ctx, "SELECT has_sequence_privilege('postrider.outbox_id_seq', 'SELECT')").Scan(&may); err != nil {
		return err
	}
	if !may {
		d.report("ids", StatusNote, "this role may not read the sequence of ids, so it is not known whether it is behind",
			fmt.Sprintf("GRANT SELECT ON SEQUENCE postrider.outbox_id_seq TO %s;", quoteName(d.role)))
		return nil
	}
	var next, highest int64
	// The greatest id first: what is inserted meanwhile is not behind.
	err := d.db.QueryRow(ctx, `WITH o AS MATERIALIZED (SELECT coalesce(max(id), 0) AS highest FROM postrider.outbox)
		SELECT o.highest, s.last_value + CASE WHEN s.is_called AND s.last_value < 9223372036854775807 THEN 1 ELSE 0 END
		FROM o CROSS JOIN postrider.outbox_id_seq s`).Scan(&highest, &next)
	if err != nil {
		return err
	}
	if next > highest {
		d.report("ids", StatusOK, fmt.Sprintf("the next message gets id %d, beyond all in the outbox", next))
		return nil
	}
	d.report("ids", StatusWarn, fmt.Sprintf("the sequence of ids is behind: the next message gets id %d, and the outbox holds ids up to %d; an INSERT fails where its id is taken in the same segment",
		next, highest), "SELECT setval('postrider.outbox_id_seq', (SELECT max(id) FROM postrider.outbox));")
	return nil
}
