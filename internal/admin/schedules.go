package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/internal/strict"
	"github.com/postrider/postrider/relay/schedule"
)

// Schedule is a schedule in a listing; the keys are stable.
type Schedule struct {
	Name         string          `json:"name"`
	Cron         string          `json:"cron"`
	Zone         string          `json:"zone"`
	Topic        string          `json:"topic"`
	Key          *string         `json:"key"`
	Payload      json.RawMessage `json:"payload"`
	Headers      json.RawMessage `json:"headers"`
	Priority     int             `json:"priority"`
	Missed       string          `json:"missed"`
	State        string          `json:"state"` // active, paused, late or trouble
	PausedReason string          `json:"paused_reason"`
	Trouble      string          `json:"trouble"`
	NextRun      *time.Time      `json:"next_run"`
	LastRun      *time.Time      `json:"last_run"`
	LateSeconds  float64         `json:"late_seconds"`
}

// The states of a schedule.
const (
	ScheduleActive  = "active"
	SchedulePaused  = "paused"
	ScheduleLate    = "late"
	ScheduleTrouble = "trouble"
)

// Schedules lists all schedules by name.
func Schedules(ctx context.Context, db Querier) ([]Schedule, error) {
	rows, err := db.Query(ctx, `
		SELECT name, cron, zone, topic::text, key, payload::text, coalesce(headers::text, 'null'), priority, missed, paused, coalesce(paused_reason, ''),
		       coalesce(trouble, ''), next_run, last_run, planned_from, extract(epoch FROM greatest(clock_timestamp() - due, interval '0'))::float8
		FROM postrider.schedules ORDER BY name`)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]Schedule{}, rows, func(row pgx.CollectableRow) (s Schedule, err error) {
		var payload, headers string
		var paused bool
		var from time.Time
		var late *float64
		err = row.Scan(&s.Name, &s.Cron, &s.Zone, &s.Topic, &s.Key, &payload, &headers, &s.Priority, &s.Missed, &paused, &s.PausedReason,
			&s.Trouble, &s.NextRun, &s.LastRun, &from, &late)
		s.Payload, s.Headers = json.RawMessage(payload), json.RawMessage(headers)
		s.judge(paused, late, from)
		return s, err
	})
}

// judge says how the schedule is; what no relay has read yet is read here.
func (s *Schedule) judge(paused bool, late *float64, from time.Time) {
	next, err := schedule.Next(s.Cron, s.Zone, from)
	switch {
	case err != nil && s.Trouble == "":
		s.Trouble = err.Error()
	case s.NextRun == nil && !next.IsZero() && err == nil && !paused:
		s.NextRun = &next
	}
	if late != nil {
		s.LateSeconds = *late
	}
	switch {
	case paused:
		s.State, s.LateSeconds, s.NextRun = SchedulePaused, 0, nil
	case s.Trouble != "":
		s.State = ScheduleTrouble
	case s.LateSeconds >= schedule.InTime.Seconds():
		s.State = ScheduleLate
	default:
		s.State, s.LateSeconds = ScheduleActive, 0
	}
}

// PauseSchedule fires a schedule no more. Without a reason it keeps the one that it has.
func PauseSchedule(ctx context.Context, db *dbconn.Conn, name, reason string) error {
	return changeSchedule(ctx, db, name, "SELECT postrider.pause_schedule($1, nullif($2, ''))", name, db.Encoding().Storable(reason))
}

// ResumeSchedule lets a schedule go on.
func ResumeSchedule(ctx context.Context, db *dbconn.Conn, name string) error {
	return changeSchedule(ctx, db, name, "SELECT postrider.resume_schedule($1)", name)
}

// RemoveSchedule removes a schedule. What it has fired stays.
func RemoveSchedule(ctx context.Context, db *dbconn.Conn, name string) error {
	return changeSchedule(ctx, db, name, "SELECT postrider.remove_schedule($1)", name)
}

// RunSchedule puts a schedule's message into the outbox now, and returns its id.
func RunSchedule(ctx context.Context, db *dbconn.Conn, name string) (id int64, err error) {
	err = db.QueryRow(ctx, "SELECT postrider.run_schedule($1)", name).Scan(&id)
	if CodeOf(err) == NotFound {
		return 0, noSchedule(ctx, db, name)
	}
	return id, err
}

func changeSchedule(ctx context.Context, db *dbconn.Conn, name, sql string, args ...any) error {
	var found bool
	if err := db.QueryRow(ctx, sql, args...).Scan(&found); err != nil {
		return err
	}
	if !found {
		return noSchedule(ctx, db, name)
	}
	return nil
}

// noSchedule is the error for a name that nobody has, with the nearest that somebody has.
func noSchedule(ctx context.Context, db Querier, name string) error {
	rows, err := db.Query(ctx, "SELECT name FROM postrider.schedules ORDER BY name")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	text := fmt.Sprintf("there is no schedule %q", name)
	switch near := strict.Nearest(name, names); {
	case near != "":
		return errorf(NotFound, "%s; did you mean %q?", text, near)
	case len(names) == 0:
		return errorf(NotFound, "%s: there are none at all", text)
	}
	return errorf(NotFound, "%s: `postrider schedules list` lists them", text)
}
