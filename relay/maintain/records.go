package maintain

import (
	"context"
	"log/slog"
	"time"

	"github.com/postrider/postrider/internal/dberr"
	"github.com/postrider/postrider/relay/store"
)

// Records keeps results and attempts for the retention, and not for much longer.
type Records struct {
	Store store.Records
	Keep  time.Duration
	Log   *slog.Logger
	said  string // what was wrong, as it was logged
}

// Job is the emptying of their segments as a job.
func (r *Records) Job() Job {
	return Job{every: min(max(r.Keep/store.SegmentCount, time.Second), retentionMost), turn: func(ctx context.Context) {
		_, err := r.Store.Empty(ctx, r.Keep)
		text := ""
		if err != nil && !dberr.Away(err) {
			text = err.Error()
		}
		if text != "" && text != r.said && ctx.Err() == nil {
			r.Log.Warn("old results and attempts stay", "error", err)
		}
		r.said = text
	}}
}
