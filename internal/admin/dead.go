package admin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// DeadReason is one reason of dead letters.
type DeadReason struct {
	Reason   string    `json:"reason"` // its beginning
	Messages int64     `json:"messages"`
	Newest   time.Time `json:"newest"` // when the last one of them died
}

// DeadReasons lists the most frequent reasons of a subscription's dead letters, as far as these were looked at: ten thousand.
func DeadReasons(ctx context.Context, db Querier, name string, limit int) ([]DeadReason, error) {
	rows, err := db.Query(ctx, `
		SELECT d.reason, count(*), `+writable("max(d.updated_at)")+` FROM (
			SELECT left(coalesce(p.reason, ''), 200) AS reason, p.updated_at FROM postrider.parked p WHERE p.subscription = $1 AND p.state = 'dead' LIMIT $3) d
		GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $2`, name, limit, mostCounted)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]DeadReason{}, rows, pgx.RowToStructByPos[DeadReason])
}

// DeadLetters lists dead letters that a filter is about, by id, after one of them; the kind and Everything of the filter do not count.
// Ten thousand are looked at: more says that there are others behind the last one.
func DeadLetters(ctx context.Context, db Querier, f Filter, after int64, limit int) (list []Parked, more bool, err error) {
	rows, err := db.Query(ctx, `
		WITH seen AS NOT MATERIALIZED ( -- it ends where a page is full
			SELECT * FROM postrider.parked p WHERE p.subscription = $1 AND p.state = 'dead' AND p.id > $2 ORDER BY p.id LIMIT $8
		)
		SELECT `+parkedColumns+` FROM seen AS parked
		WHERE ($3::text IS NULL OR topic ~ postrider.topic_regex(ARRAY[$3::text])) AND ($4::text IS NULL OR key = $4)
		  AND ($5::text IS NULL OR coalesce(reason ILIKE postrider.like_failure($5), false))
		  AND ($6::timestamptz IS NULL OR created_at >= $6) AND ($7::timestamptz IS NULL OR created_at < $7)
		ORDER BY id LIMIT $9`, f.Subscription, after, f.Topic, f.Key, f.Failure, f.Since, f.Until, mostLooked, limit+1)
	if err != nil {
		return nil, false, err
	}
	list, err = pgx.AppendRows([]Parked{}, rows, pgx.RowToStructByPos[Parked])
	if len(list) > limit {
		return list[:limit], true, err
	}
	return list, false, err
}
