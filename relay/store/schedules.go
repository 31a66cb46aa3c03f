package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
)

// Schedules are the messages that are put into the outbox at planned times. All times are of the database's clock.
type Schedules struct{ Pool *dbconn.Pool }

// Schedule is what is to be known of one to decide whether to fire it.
type Schedule struct {
	Name, Cron, Zone, Missed string
	Version                  int64
	Next                     *time.Time // nil: not planned yet
	From                     time.Time  // the first run is after this moment, if it is not planned yet
	Due                      time.Time  // when it was to be looked at
	Trouble                  string     // why it could not be fired; "": none
}

// Firing is what was decided about a schedule, as it was.
type Firing struct {
	Schedule
	Then    *time.Time  // the run after those that are fired; nil: there is none
	Trouble string      // "": none
	Runs    []time.Time // that are fired now
	Lost    bool        // runs were missed, and these do not make up for all of them
}

// Earliest returns how long it is until the first schedule is due, and false if none will be. What is overdue has a wait below zero.
func (s Schedules) Earliest(ctx context.Context) (wait time.Duration, some bool, err error) {
	var micros *int64
	// By itself, without a transaction around it: this is asked once a second, by relays that have nothing to do.
	err = s.Pool.QueryRow(ctx, "SELECT (SELECT (extract(epoch FROM s.due - clock_timestamp()) * 1000000)::bigint FROM postrider.schedules s WHERE s.due IS NOT NULL ORDER BY s.due LIMIT 1)").
		Scan(&micros)
	if err != nil || micros == nil {
		return 0, false, err
	}
	return time.Duration(*micros) * time.Microsecond, true, nil
}

// DuePlace is a place in the order in which schedules are due: those that cannot be fired now do not keep the rest from being seen.
type DuePlace struct {
	Due  time.Time
	Name string
}

// distantFuture is after every time at which something may be due now.
var distantFuture = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// DueRange is what is due between two places, both left out, either those in trouble or the others; from its end if Backwards.
type DueRange struct {
	troubled  bool
	Backwards bool
	From, To  DuePlace
}

// AllDue is the range of all of them.
func AllDue(troubled bool) DueRange {
	return DueRange{troubled: troubled, From: DuePlace{Due: DistantPast}, To: DuePlace{Due: distantFuture}}
}

// dueQuery reads a page from either end of a range.
func dueQuery(order string) string {
	return `SELECT statement_timestamp(), s.name, s.cron, s.zone, s.missed, s.version, s.next_run, s.planned_from, s.due, coalesce(s.trouble, '') FROM postrider.schedules s
		WHERE s.due <= statement_timestamp() AND (s.trouble IS NOT NULL) = $1::boolean AND (s.due, s.name) > ($2::timestamptz, $3::text) AND (s.due, s.name) < ($4::timestamptz, $5::text)
		ORDER BY s.due ` + order + `, s.name ` + order + ` LIMIT $6::integer`
}

var dueForwards, dueBackwards = dueQuery("ASC"), dueQuery("DESC")

// Due returns the next schedules of a range, and the time at which they were due.
func (s Schedules) Due(ctx context.Context, r DueRange, most int) (now time.Time, list []Schedule, err error) {
	query := dueForwards
	if r.Backwards {
		query = dueBackwards
	}
	err = read(ctx, s.Pool, func(b *pgx.Batch) {
		b.Queue(query, r.troubled, r.From.Due, r.From.Name, r.To.Due, r.To.Name, most).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var r Schedule
				if err := rows.Scan(&now, &r.Name, &r.Cron, &r.Zone, &r.Missed, &r.Version, &r.Next, &r.From, &r.Due, &r.Trouble); err != nil {
					return err
				}
				list = append(list, r)
			}
			return rows.Err()
		})
	})
	if err != nil {
		return time.Time{}, nil, err
	}
	return now, list, nil
}

// Fire lets schedules move on that are still as they were, and puts their runs into the outbox, all in one statement. It returns how many
// have moved on, and how many messages that made: what has changed meanwhile, what another relay fires, and what somebody has locked is
// left alone. It commits as the server's setting says: what is planned from here must not be forgotten by a failover alone.
func (s Schedules) Fire(ctx context.Context, list []Firing) (moved, fired int, err error) {
	var (
		names     []string
		troubles  []*string
		versions  []int64
		was, then []*time.Time
		of        []int32
		lost      []bool
		at        []time.Time
	)
	for i, f := range list {
		names, versions = append(names, f.Name), append(versions, f.Version)
		was, then = append(was, f.Next), append(then, f.Then)
		troubles, lost = append(troubles, orNull(s.Pool.Encoding().Storable(f.Trouble))), append(lost, f.Lost)
		for _, run := range f.Runs {
			of, at = append(of, int32(i+1)), append(at, run)
		}
	}
	b := &pgx.Batch{}
	b.Queue(begin.sql)
	b.Queue(limited.sql)
	b.Queue("SELECT moved, fired FROM postrider.fire_schedules($1::text[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::integer[], $7::timestamptz[], $8::boolean[])",
		names, versions, was, then, troubles, of, at, lost).QueryRow(func(row pgx.Row) error { return row.Scan(&moved, &fired) })
	b.Queue(commit.sql)
	if err := s.Pool.SendBatch(ctx, b).Close(); err != nil {
		return 0, 0, fmt.Errorf("fire schedules: %w", err)
	}
	return moved, fired, nil
}
