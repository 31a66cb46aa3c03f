package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// scheduleFaults are what operators do to schedules. None of it excuses anything.
var scheduleFaults = []*Fault{
	{Name: "schedule", About: "schedules that are behind are put, and paused, resumed, changed, run by hand and removed", Hits: onSchedules, Inject: useSchedules},
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

// schedule is one that the checker has put.
type schedule struct {
	name, cron, missed string
	key                *string
}

func newSchedule(rng *rand.Rand) (s schedule) {
	s.name, s.cron, s.missed = fmt.Sprintf("s%d", rng.Uint64()), crons[rng.IntN(len(crons))], misses[rng.IntN(len(misses))]
	if rng.IntN(2) == 0 {
		s.key = &s.name
	}
	return s
}

// useSchedules puts schedules whose first runs were minutes ago, as after an outage, due at a moment for which all relays wait, and does something to
// them at about that time.
func useSchedules(ctx context.Context, w *world, rng *rand.Rand) (err error) {
	soon := span(rng, 1100*time.Millisecond, 2*time.Second)
	due := time.Now().Add(soon)
	var list []schedule
	for range 4 {
		s := newSchedule(rng)
		list = append(list, s)
		err = errors.Join(err, w.step(ctx, s.name, "put",
			to("SELECT postrider.put_schedule($1, $2, 'tick.' || $1, key => $3, missed => $4)", s.name, s.cron, s.key, s.missed),
			to("UPDATE postrider.schedules SET planned_from = clock_timestamp() - $2 * interval '1 minute', due = $3 WHERE name = $1 AND next_run IS NULL", s.name, rng.IntN(20), due)))
	}
	for n := rng.IntN(6); n > 0 && len(list) > 0 && err == nil; n-- {
		pause(ctx, span(rng, 0, soon/2))
		i := rng.IntN(len(list))
		what, do := list[i].change(rng)
		err = w.step(ctx, list[i].name, what, do)
		switch {
		case what == "remove":
			list = slices.Delete(list, i, i+1)
		case what == "pause" && err == nil && rng.IntN(2) == 0:
			pause(ctx, span(rng, 0, soon/4))
			err = w.step(ctx, list[i].name, "resume", to("SELECT postrider.resume_schedule($1)", list[i].name))
		}
	}
	return err
}

// change picks something to be done to it.
func (s schedule) change(rng *rand.Rand) (what string, do call) {
	switch n := rng.IntN(10); {
	case n < 3:
		return "resume", to("SELECT postrider.resume_schedule($1)", s.name)
	case n == 3: // its next run stays
		return "change", to(`SELECT postrider.put_schedule($1, $2, 'tick.' || $1, '{"changed": true}', key => $3, missed => $4)`, s.name, s.cron, s.key, s.missed)
	case n == 4:
		return "change", to("SELECT postrider.put_schedule($1, '*/3 * * * *', 'tick.' || $1, key => $2, missed => $3)", s.name, s.key, s.missed)
	case n == 5:
		return "remove", to("SELECT postrider.remove_schedule($1)", s.name)
	case n == 6 && s.key == nil: // it locks nothing, so that it has no place among the others of a key
		return "run", to("INSERT INTO torture.steps (schedule, what, message) SELECT $1, 'ran', postrider.run_schedule($1)", s.name)
	}
	return "pause", to("SELECT postrider.pause_schedule($1)", s.name)
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
