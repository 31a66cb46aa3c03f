package console

import (
	"context"
	"time"

	"github.com/postrider/postrider/internal/admin"
	"github.com/postrider/postrider/internal/dbconn"
	"github.com/postrider/postrider/sinks/pull"
)

// workersData is what templates/workers.html shows.
type workersData struct {
	Now     time.Time
	Serves  bool // this relay answers workers
	Workers []workerRow
	Lines   []lineRow
	Shards  []admin.ShardHolder
	Relays  int // others that live
}

// workerRow is a worker with what is said of it.
type workerRow struct {
	pull.WorkerStatus
	condition
}

// lineRow is a subscription's jobs with what is said of them.
type lineRow struct {
	pull.LineStatus
	condition
}

// silentFor is how long a worker may be silent before that is worth a word.
const silentFor = 15 * time.Second

func (h *Handler) workers(ctx context.Context, q *request) (*page, error) {
	d := workersData{Now: time.Now(), Serves: h.Workers != nil}
	if d.Serves {
		workers, lines := h.Workers()
		for _, w := range workers {
			d.Workers = append(d.Workers, workerRow{w, workerCondition(w, d.Now)})
		}
		for _, l := range lines {
			d.Lines = append(d.Lines, lineRow{l, lineCondition(l)})
		}
	}
	err := h.DB(ctx, func(db *dbconn.Conn) (err error) {
		d.Shards, err = admin.ShardHolders(ctx, db)
		return err
	})
	if err != nil {
		return nil, err
	}
	if report := h.sampler.glance(ctx); report != nil {
		for _, r := range report.Relays {
			if r.Lives(report.Now) && r.Name != h.Name {
				d.Relays++
			}
		}
	}
	return &page{Title: "Workers", Section: "/workers", Body: "workers", Every: sampleEvery, Data: d}, nil
}

func workerCondition(w pull.WorkerStatus, now time.Time) condition {
	switch {
	case now.Sub(w.LastCall) >= silentFor && w.Jobs > 0:
		return condition{"silent", odd, "its jobs go to others"}
	case now.Sub(w.LastCall) >= silentFor:
		return condition{"silent", odd, ""}
	case w.Jobs > 0:
		return condition{"at work", good, ""}
	case w.Waits:
		return condition{"waits for jobs", good, ""}
	}
	return condition{"calls, and takes nothing", odd, ""}
}

func lineCondition(l pull.LineStatus) condition {
	switch {
	case l.Trouble != "":
		return condition{"nobody takes", bad, l.Trouble}
	case l.Waiting > 0 && l.Calls == 0:
		return condition{"jobs wait", good, ""}
	}
	return condition{"served", good, ""}
}
