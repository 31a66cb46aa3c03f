package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/api/access"
	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/relay/schedule"
)

const scheduleTag = "schedules"

type scheduleList struct {
	Schedules []admin.Schedule `json:"schedules"`
}

// ScheduleNamed names a schedule.
type ScheduleNamed struct {
	Name string `path:"name" doc:"The schedule's name." example:"nightly"`
}

// WrittenSchedule is a schedule as it is to be.
type WrittenSchedule struct {
	Cron     string            `json:"cron" doc:"Five fields, or @hourly and the like." example:"0 3 * * *"`
	Zone     string            `json:"zone,omitempty" doc:"An IANA time zone; UTC is the default." example:"Europe/Berlin"`
	Topic    string            `json:"topic" doc:"Of the messages that it makes." example:"reports.nightly"`
	Key      *string           `json:"key,omitempty" doc:"Of the messages."`
	Payload  json.RawMessage   `json:"payload,omitempty" doc:"Of the messages: any JSON; {} is the default."`
	Headers  map[string]string `json:"headers,omitempty" doc:"Of the messages."`
	Priority int               `json:"priority,omitempty" minimum:"1" maximum:"4" doc:"Of the messages."`
	Missed   string            `json:"missed,omitempty" doc:"What is done about runs that were missed: skip, last or all(n)." example:"last"`
}

func (w *WrittenSchedule) spec(name string) (schedule.Spec, error) {
	s := schedule.NewSpec()
	s.Name, s.Cron, s.Topic, s.Key, s.Headers = name, w.Cron, w.Topic, w.Key, w.Headers
	if w.Zone != "" {
		s.Zone = w.Zone
	}
	if w.Missed != "" {
		s.Missed = w.Missed
	}
	if w.Priority != 0 {
		s.Priority = w.Priority
	}
	if w.Payload != nil {
		s.Payload = w.Payload
	}
	for _, field := range []string{"name", "cron", "zone", "topic", "missed", "priority", "headers"} {
		if err := s.Check(field); err != nil {
			return s, problem.New(http.StatusBadRequest, "invalid_request", "%s", err)
		}
	}
	return s, nil
}

func (a *API) schedules() {
	register(a, operation{need: access.Viewer, method: http.MethodGet, path: "/schedules", id: "list-schedules", tag: scheduleTag,
		summary: "All schedules, with their last and next run", description: "state is active, paused, late or trouble."},
		func(ctx context.Context, db *dbconn.Conn, _ *struct{}) (out scheduleList, err error) {
			out.Schedules, err = admin.Schedules(ctx, db)
			return out, err
		})
	type put struct {
		ScheduleNamed
		DryRun bool `query:"dry_run" doc:"Say what would change, and change nothing."`
		Body   WrittenSchedule
	}
	register(a, operation{need: access.Admin, method: http.MethodPut, path: "/schedules/{name}", id: "put-schedule", tag: scheduleTag, time: changeTime,
		summary: "Create a schedule, or change it", description: "A pause stays."},
		func(ctx context.Context, db *dbconn.Conn, in *put) (admin.ScheduleChange, error) {
			spec, err := in.Body.spec(in.Name)
			if err != nil {
				return admin.ScheduleChange{}, err
			}
			changes, err := admin.ApplySchedules(ctx, db, []schedule.Spec{spec}, admin.ApplyOptions{DryRun: in.DryRun})
			if err != nil {
				return admin.ScheduleChange{}, err
			}
			return changes[0], nil
		})
	register(a, operation{need: access.Admin, method: http.MethodDelete, path: "/schedules/{name}", id: "remove-schedule", tag: scheduleTag,
		summary: "Remove a schedule", description: "What it has fired stays."},
		func(ctx context.Context, db *dbconn.Conn, in *ScheduleNamed) (done, error) {
			return done{true}, admin.RemoveSchedule(ctx, db, in.Name)
		})
	type pause struct {
		ScheduleNamed
		Body *withReason
	}
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/schedules/{name}/pause", id: "pause-schedule", tag: scheduleTag,
		summary: "Fire a schedule no more", description: "What comes due meanwhile is missed."},
		func(ctx context.Context, db *dbconn.Conn, in *pause) (done, error) {
			return done{true}, admin.PauseSchedule(ctx, db, in.Name, in.Body.reason())
		})
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/schedules/{name}/resume", id: "resume-schedule", tag: scheduleTag,
		summary: "Let a schedule go on", description: "It goes on with its next run."},
		func(ctx context.Context, db *dbconn.Conn, in *ScheduleNamed) (done, error) {
			return done{true}, admin.ResumeSchedule(ctx, db, in.Name)
		})
	register(a, operation{need: access.Operator, method: http.MethodPost, path: "/schedules/{name}/run", id: "run-schedule", tag: scheduleTag,
		summary: "Fire a schedule now", description: "Its next run stays as it is."},
		func(ctx context.Context, db *dbconn.Conn, in *ScheduleNamed) (out enqueued, err error) {
			out.ID, err = admin.RunSchedule(ctx, db, in.Name)
			return out, err
		})
}
