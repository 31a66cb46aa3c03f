package admin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// mostLooked is how many messages are looked at for one answer.
const mostLooked = 10000

// ReplayPreview is what a replay would deliver again or for the first time.
type ReplayPreview struct {
	Preview
	Start string     `json:"start"`
	Since *time.Time `json:"since"` // nil: from the beginning, or from now on
}

// PreviewReplay counts the messages of the log, from a start on, whose topics the subscription wants, whether or not they were delivered. The
// newest are looked at, as many as take a moment: beyond these there may be more.
func PreviewReplay(ctx context.Context, db *dbconn.Conn, name, start string) (p ReplayPreview, err error) {
	p.Start = start
	if err := CheckReplay(start); err != nil {
		return p, err
	}
	err = ReadOnly(ctx, db, func(tx pgx.Tx) error {
		if err := requireSubscription(ctx, tx, name); err != nil || start == "now" {
			return err
		}
		if start != "earliest" {
			if p.Since, err = PastTime(ctx, tx, "start", start); err != nil {
				return err
			}
		}
		if err := byIndex(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			WITH newest AS MATERIALIZED (SELECT topic::text, created_at, count(*) OVER () AS looked FROM (
				SELECT topic, created_at FROM postrider.outbox ORDER BY id DESC LIMIT $3 + 1) o)
			SELECT count(*) FILTER (WHERE wanted), coalesce(max(looked) > $3 AND min(created_at) >= coalesce($2::timestamptz, '-infinity'), false)
			FROM (SELECT o.created_at, o.looked, o.created_at >= coalesce($2::timestamptz, '-infinity') AND o.topic ~ (
				SELECT postrider.topic_regex(s.topics) FROM postrider.subscriptions s WHERE s.name = $1) AS wanted FROM newest o) o`,
			name, p.Since, int64(mostLooked)).Scan(&p.Messages, &p.More)
	})
	return p, err
}

// byIndex makes the planner go along indexes: the first rows of many segments are wanted, whose sizes nobody may have told it.
func byIndex(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off")
	return err
}
