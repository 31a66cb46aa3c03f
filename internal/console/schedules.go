package console

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
)

// schedulesData is what templates/schedules.html shows.
type schedulesData struct {
	Now  time.Time
	List []scheduleRow
}

// scheduleRow is a schedule in the list.
type scheduleRow struct {
	admin.Schedule
	condition
}

func (h *Handler) schedules(ctx context.Context, q *request) (*page, error) {
	var d schedulesData
	err := h.DB(ctx, func(db *dbconn.Conn) error {
		list, err := admin.Schedules(ctx, db)
		if err != nil {
			return err
		}
		for _, s := range list {
			d.List = append(d.List, scheduleRow{s, scheduleCondition(s)})
		}
		return db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&d.Now)
	})
	return &page{Title: "Schedules", Section: "/schedules", Body: "schedules", Every: 5 * time.Second, Data: d}, err
}

// scheduleCondition says how a schedule is, and why.
func scheduleCondition(s admin.Schedule) condition {
	switch s.State {
	case admin.SchedulePaused:
		return condition{"paused", odd, s.PausedReason}
	case admin.ScheduleTrouble:
		return condition{"in trouble", bad, s.Trouble}
	case admin.ScheduleLate:
		return condition{"late", odd, "no relay has fired it: does one run?"}
	}
	return condition{"active", good, ""}
}

const schedulesPath = "/schedules"

func (h *Handler) pauseSchedule(ctx context.Context, q *request) (*done, error) {
	name := q.http.PathValue("name")
	err := h.DB(ctx, func(db *dbconn.Conn) error { return admin.PauseSchedule(ctx, db, name, q.form("reason")) })
	return &done{to: schedulesPath, say: fmt.Sprintf("Schedule %s is paused.", name)}, err
}

func (h *Handler) resumeSchedule(ctx context.Context, q *request) (*done, error) {
	name := q.http.PathValue("name")
	err := h.DB(ctx, func(db *dbconn.Conn) error { return admin.ResumeSchedule(ctx, db, name) })
	return &done{to: schedulesPath, say: fmt.Sprintf("Schedule %s goes on: what was due while it was paused is not made up for.", name)}, err
}

func (h *Handler) runSchedule(ctx context.Context, q *request) (*done, error) {
	name := q.http.PathValue("name")
	var id int64
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		id, err = admin.RunSchedule(ctx, db, name)
		return err
	})
	return &done{to: schedulesPath, say: fmt.Sprintf("Schedule %s has put message %d into the log; when it is due is as before.", name, id)}, err
}
