package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// scheduleFaults are what operators do to schedules. None of it excuses anything.
var scheduleFaults = []*Fault{
	{Name: "schedule", About: "a schedule that is behind is put, and perhaps paused, resumed, changed, run by hand or removed", Hits: onSchedules, Inject: useSchedule},
}

// Each minute is the shortest that there is. What is rarer has missed runs that do not count as in time.
var (
	crons  = []string{"* * * * *", "* * * * *", "*/2 * * * *", "*/5 * * * *"}
	misses = []string{"skip", "last", "all(3)", "all(20)"}
)

// call is a statement with its arguments.
type call struct {
	sql  string
	args []any
}

func to(sql string, args ...any) call { return call{sql, args} }

// useSchedule puts a schedule whose first runs were minutes ago, as after an outage, due at a moment for which all relays wait, and does something to
// it at about that time.
func useSchedule(ctx context.Context, w *world, rng *rand.Rand) error {
	name, key := fmt.Sprintf("s%d", rng.Uint64()), any(nil)
	keyed := rng.IntN(2) == 0
	if keyed {
		key = name
	}
	cron, missed, soon := crons[rng.IntN(len(crons))], misses[rng.IntN(len(misses))], span(rng, 0, 1500*time.Millisecond)
	err := w.step(ctx, name, "put",
		to("SELECT postrider.put_schedule($1, $2, 'tick.' || $1, key => $3, missed => $4)", name, cron, key, missed),
		to("UPDATE postrider.schedules SET planned_from = clock_timestamp() - $2 * interval '1 minute', due = clock_timestamp() + $3 WHERE name = $1 AND next_run IS NULL",
			name, rng.IntN(20), soon))
	for n := rng.IntN(4); n > 0 && err == nil; n-- {
		pause(ctx, span(rng, 0, soon))
		what, do := "pause", to("SELECT postrider.pause_schedule($1)", name)
		switch n := rng.IntN(9); {
		case n < 3:
			what, do = "resume", to("SELECT postrider.resume_schedule($1)", name)
		case n == 3: // its next run stays
			what, do = "change", to(`SELECT postrider.put_schedule($1, $2, 'tick.' || $1, '{"changed": true}', key => $3, missed => $4)`, name, cron, key, missed)
		case n == 4:
			what, do = "change", to("SELECT postrider.put_schedule($1, '*/3 * * * *', 'tick.' || $1, key => $2, missed => $3)", name, key, missed)
		case n == 5:
			what, do = "remove", to("SELECT postrider.remove_schedule($1)", name)
		case n == 6 && !keyed: // it locks nothing, so that it has no place among the others of a key
			what, do = "run", to("INSERT INTO torture.steps (schedule, what, message) SELECT $1, 'ran', postrider.run_schedule($1)", name)
		}
		if err = w.step(ctx, name, what, do); what == "remove" {
			break
		}
	}
	return err
}

// step does something to a schedule and takes it down, in one transaction. A failover may have taken the schedule away.
func (w *world) step(ctx context.Context, name, what string, do ...call) error {
	return poll(ctx, time.Minute, func() error {
		err := pgx.BeginFunc(ctx, w.db.admin, func(tx pgx.Tx) error {
			for _, c := range do {
				if _, err := tx.Exec(ctx, c.sql, c.args...); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, `INSERT INTO torture.steps (schedule, what, cron, missed, planned_from)
				SELECT $1, $2, s.cron, s.missed, CASE WHEN s.next_run IS NULL THEN s.planned_from END FROM (SELECT) o LEFT JOIN postrider.schedules s ON s.name = $1`, name, what)
			return err
		})
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "42704" {
			return nil
		}
		return err
	})
}
