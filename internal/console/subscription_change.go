package console

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
)

func (h *Handler) pause(ctx context.Context, q *request) (*done, error) {
	name := q.http.PathValue("name")
	err := h.DB(ctx, func(db *dbconn.Conn) error { return admin.Pause(ctx, db, name, q.form("reason")) })
	return &done{to: subscriptionPath(name), say: fmt.Sprintf("%s is paused: what is out is finished, nothing else is delivered until it is resumed.", name)}, err
}

func (h *Handler) resume(ctx context.Context, q *request) (*done, error) {
	name := q.http.PathValue("name")
	err := h.DB(ctx, func(db *dbconn.Conn) error { return admin.Resume(ctx, db, name) })
	return &done{to: subscriptionPath(name), say: fmt.Sprintf("%s is resumed.", name)}, err
}

// replayData is what templates/replay.html shows.
type replayData struct {
	Name    string
	Start   string // as it was asked for, or empty
	Preview admin.ReplayPreview
	Note    string // what the destination does with messages that it has got before
}

// askReplay shows what a replay would do, before it is done.
func (h *Handler) askReplay(ctx context.Context, q *request) (*page, error) {
	d := replayData{Name: q.http.PathValue("name"), Start: q.get("start")}
	p := &page{Title: "Replay " + d.Name, Section: "/", Body: "replay"}
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		s, err := admin.ShowSubscription(ctx, db, d.Name)
		if err != nil || d.Start == "" {
			return err
		}
		d.Note = admin.ReplayNote(s, d.Start)
		d.Preview, err = admin.PreviewReplay(ctx, db, d.Name, d.Start)
		if text, is := asked(err); is {
			p.Problem, d.Start, err = text, "", nil
		}
		return err
	})
	p.Data = d
	return p, err
}

func (h *Handler) replay(ctx context.Context, q *request) (*done, error) {
	name, start := q.http.PathValue("name"), q.form("start")
	if start == "" {
		return nil, badInput("start: must be earliest, now, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 1h")
	}
	var r admin.Replayed
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		r, err = admin.Replay(ctx, db, name, start)
		return err
	})
	return &done{to: subscriptionPath(name), say: fmt.Sprintf("%s goes on from %s. %s", name, r.Start, r.Note)}, err
}
